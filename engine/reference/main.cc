// SPDX-License-Identifier: Apache-2.0
//
// reference_engine: one rank of a group that serves TinyMoE expert-parallel.
#include <csignal>
#include <cstdio>
#include <string>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "engine/reference/engine.h"

ABSL_FLAG(std::string, group, "tinymoe", "group of ranks that serve one model together");
ABSL_FLAG(int, rank, 0, "this process's rank, from 0");
ABSL_FLAG(int, ranks, 1, "ranks that make the group");
ABSL_FLAG(int, ranks_max, 0, "ranks that it may ever have, the same for all; 0: --ranks");
ABSL_FLAG(
    bool, join, false,
    "comes to a group under way, in place of an ended rank or as one beyond --ranks: holds no expert, waits until "
    "the controller has made it a member");
ABSL_FLAG(int, slots_per_rank, 0, "slots for experts on each rank and layer; 0: as --redundant says");
ABSL_FLAG(int, redundant, -1, "slots of a layer beyond one per expert, over all ranks; -1: one a rank");
ABSL_FLAG(std::string, run_dir, "", "directory of the group's sockets and status files, the same for all ranks");
ABSL_FLAG(std::string, region_dir, "/dev/shm", "directory of the region files that agents look for");
ABSL_FLAG(std::string, model_dir, "engine/reference/tinymoe", "directory of model.safetensors, config.json, prompts");
ABSL_FLAG(std::string, device, "cpu",
          "where the experts' weights are and are computed with: cpu, cuda (GPUs take turns by rank)");
ABSL_FLAG(double, seconds, 0, "ends by itself after so many seconds; 0: at SIGTERM or SIGINT");
ABSL_FLAG(double, startup_seconds, 60, "how long to wait for the other ranks' sockets");
ABSL_FLAG(int, batch, 32, "sequences that each lane serves at a time");
ABSL_FLAG(int, prompt_bytes, 96, "bytes of real text at the start of each sequence");
ABSL_FLAG(int, decode_bytes, 64, "bytes that the model writes after them, at most; at least half as many");
ABSL_FLAG(int, rows_per_step_max, 256, "bytes of prompts that one step reads");
ABSL_FLAG(int, lanes, 1, "streams of steps that are open at the same time");
ABSL_FLAG(double, tokens_per_second_max, 0, "limit of each lane's speed; 0: none");
ABSL_FLAG(uint64_t, seed, 1, "of the choice of text; ranks and lanes differ by themselves");
ABSL_FLAG(std::string, mix, "python:10,cxx:10,prose:10,data:10",
          "domains of the text over time, round and round: <domain>:<seconds>,... A part starts with its domain alone "
          "and moves evenly to the next; the domain 'mixed' is all of them alike");
ABSL_FLAG(std::string, check, "sample",
          "which sequences are compared with a plain copy of the model: full, sample, off");
ABSL_FLAG(double, check_fraction, 0.5, "of sequences, with --check=sample");
ABSL_FLAG(
    int, requests_port, -1,
    "port of 127.0.0.1 where requests for text are taken over HTTP (POST /v1/completions); 0: any free one, told as "
    "\"url\" in the status file; -1: none");
ABSL_FLAG(bool, background, true, "serve text of --model_dir wherever nothing is asked for");
ABSL_FLAG(double, answer_seconds, 10, "how long a step waits for a rank before it is given up and tried again");
ABSL_FLAG(
    std::string, on_loss, "wait",
    "tokens of ranks that are lost: reroute (to another replica, else dropped), wait (the same, but steps are given "
    "up and tried again while there is none), drop (what was sent to a lost rank)");
ABSL_FLAG(double, drop_seconds, 10,
          "with --on_loss=wait: how long for an expert that has no live replica before steps do without");
ABSL_FLAG(int, fail_rank, -1, "the rank that is to fail, for tests");
ABSL_FLAG(int64_t, fail_after_steps, 0, "the steps that it does before");
ABSL_FLAG(std::string, fail_as, "",
          "how: exit, hang, slow, zeros (answers to others), cut (closes its sockets), silence (for a while), pause "
          "(the same, "
          "announced by a busy lease)");
ABSL_FLAG(double, fail_seconds, 5, "how long a silence or pause is");

namespace {

constexpr char kUsage[] = R"(serves TinyMoE as one rank of an expert-parallel group.

Each rank is a process of its own. Start one per rank with the same --group, --ranks and --run_dir:

  mkdir /tmp/run
  for rank in 0 1 2 3; do reference_engine --ranks=4 --rank=$rank --run_dir=/tmp/run & done

They find each other through sockets in --run_dir and serve real text at once, by the default placement; an
evenkeel-agent per rank may come and go. What a rank does stands in <run_dir>/engine-<rank>.json, rewritten four times a
second. A line 'VERSION DIRECTORY SECONDS' in <run_dir>/reload-<rank> has it read its experts anew, from DIRECTORY's
model.safetensors, suspended for SECONDS at least. SIGTERM ends it; its exit status is 0 when nothing it checked was wrong.)";

// Words of a flag's name may be joined by dashes as well.
void JoinByUnderscores(char* argument) {
  if (argument[0] != '-' || argument[1] != '-') return;
  for (char* c = argument + 2; *c != '\0' && *c != '='; ++c) {
    if (*c == '-') *c = '_';
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) JoinByUnderscores(argv[i]);
  absl::SetProgramUsageMessage(kUsage);
  absl::FlagsUsageConfig usage;
  usage.contains_helpshort_flags = [](absl::string_view file) {
    return absl::EndsWith(file, "engine/reference/main.cc");
  };
  usage.contains_help_flags = usage.contains_helpshort_flags;
  absl::SetFlagsUsageConfig(usage);
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) {
    std::fprintf(stderr, "reference_engine: what is '%s'? See --help\n", rest[1]);
    return 2;
  }
  const evenkeel::engine::EngineOptions options{
      .group = absl::GetFlag(FLAGS_group),
      .rank = absl::GetFlag(FLAGS_rank),
      .num_ranks = absl::GetFlag(FLAGS_ranks),
      .ranks_max = absl::GetFlag(FLAGS_ranks_max),
      .join = absl::GetFlag(FLAGS_join),
      .slots_per_rank = absl::GetFlag(FLAGS_slots_per_rank),
      .num_redundant = absl::GetFlag(FLAGS_redundant),
      .run_dir = absl::GetFlag(FLAGS_run_dir),
      .region_dir = absl::GetFlag(FLAGS_region_dir),
      .model_dir = absl::GetFlag(FLAGS_model_dir),
      .run_time = absl::Seconds(absl::GetFlag(FLAGS_seconds)),
      .startup_deadline = absl::Seconds(absl::GetFlag(FLAGS_startup_seconds)),
      .answer_deadline = absl::Seconds(absl::GetFlag(FLAGS_answer_seconds)),
      .drop_after = absl::Seconds(absl::GetFlag(FLAGS_drop_seconds)),
      .device = absl::GetFlag(FLAGS_device),
      .on_loss = absl::GetFlag(FLAGS_on_loss),
      .num_lanes = absl::GetFlag(FLAGS_lanes),
      .batch = absl::GetFlag(FLAGS_batch),
      .prompt_bytes = absl::GetFlag(FLAGS_prompt_bytes),
      .decode_bytes = absl::GetFlag(FLAGS_decode_bytes),
      .rows_per_step_max = absl::GetFlag(FLAGS_rows_per_step_max),
      .tokens_per_second_max = absl::GetFlag(FLAGS_tokens_per_second_max),
      .seed = absl::GetFlag(FLAGS_seed),
      .mix = absl::GetFlag(FLAGS_mix),
      .check = absl::GetFlag(FLAGS_check),
      .check_fraction = absl::GetFlag(FLAGS_check_fraction),
      .requests_port = absl::GetFlag(FLAGS_requests_port),
      .background = absl::GetFlag(FLAGS_background),
      .fail_as = absl::GetFlag(FLAGS_fail_rank) == absl::GetFlag(FLAGS_rank) ? absl::GetFlag(FLAGS_fail_as) : "",
      .fail_after_steps = absl::GetFlag(FLAGS_fail_after_steps),
      .pause = absl::Seconds(absl::GetFlag(FLAGS_fail_seconds)),
  };
  const absl::Status status = evenkeel::engine::RunEngine(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "reference_engine rank %d: %s\n", options.rank, std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? 2 : 1;
}
