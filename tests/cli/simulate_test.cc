// SPDX-License-Identifier: Apache-2.0
//
// keelctl simulate, from words typed to files written; no controller is there.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "catch2/catch.hpp"
#include "nlohmann/json.hpp"

#include "algos/base/rng.h"
#include "cli/files/file.h"
#include "cli/files/npy.h"
#include "cli/keelctl.h"
#include "cli/report/report.h"
#include "cli/simulate/progress.h"

namespace evenkeel::cli {
namespace {

namespace fs = std::filesystem;

struct Folder {
  Folder() {
    std::string name = (fs::temp_directory_path() / "keelctl-simulate-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() { fs::remove_all(path); }
  std::string At(const std::string& name) const { return (path / name).string(); }

  fs::path path;
};

// 12 windows, 2 layers, 6 experts.
NpyArray Counts() {
  Rng rng(1);
  NpyArray counts{.shape = {12, 2, 6}, .values = {}};
  for (int i = 0; i < 12 * 2 * 6; ++i) counts.values.push_back(1 + rng.Below(1000) * (i % 6 == 2 ? 4 : 1));
  return counts;
}

std::string Read(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Keelctl {
  Keelctl() { REQUIRE(WriteFile(folder.At("t.npy"), RenderNpy(Counts())).ok()); }

  // Exit status; options are added to a simulation of t.npy.
  int Run(std::vector<std::string> options, bool err_terminal = false) {
    std::vector<std::string> words = {"simulate", folder.At("t.npy"), "--ranks=4", "--warmup=4"};
    words.insert(words.end(), options.begin(), options.end());
    return RunWords(words, err_terminal);
  }
  int RunWords(const std::vector<std::string>& words, bool err_terminal = false) {
    std::ostringstream out_stream, err_stream;
    const int status = RunKeelctl(words, {.err_terminal = err_terminal}, out_stream, err_stream);
    out = out_stream.str();
    err = err_stream.str();
    return status;
  }
  bool Says(const std::string& part) const { return out.find(part) != std::string::npos; }
  bool Complains(const std::string& part) const { return err.find(part) != std::string::npos; }

  Folder folder;
  std::string out, err;
};

TEST_CASE("policies are compared with never changing anything", "[simulate]") {
  Keelctl keelctl;
  REQUIRE(keelctl.Run({"--slots-per-rank=2", "--policy=greedy,deepseek", "--interval=2,4"}) == 0);
  for (const char* part : {"12 windows, 2 layers, 6 experts on 4 ranks x 2 slots; scored from window 4 on",
                           "contiguous", "greedy", "deepseek", "noise floor"}) {
    CAPTURE(part);
    CHECK(keelctl.Says(part));
  }
  CHECK(keelctl.err.empty());
}

TEST_CASE("the JSON has every run, and a single policy's figures at its top", "[simulate]") {
  Keelctl keelctl;
  REQUIRE(keelctl.Run({"--slots-per-rank=2", "--policy=greedy", "--interval=2", "--history=3", "--json"}) == 0);
  const auto json = nlohmann::json::parse(keelctl.out);
  CHECK(json["runs"].size() == 2);
  CHECK(json["runs"][0]["moves"] == 0);
  CHECK(json["policy"] == "greedy");
  CHECK(json["history"] == 3);
  CHECK(json["imbalance_mean"] == json["runs"][1]["imbalance_mean"]);
  CHECK(json["moves"] > 0);
  CHECK(json["imbalance_with_best_shares"] <= json["imbalance_mean"]);
  CHECK(json["best_placement_lower_bound"] <= json["best_placement_found"]);
  REQUIRE(keelctl.Run({"--slots-per-rank=2", "--policy=greedy,deepseek", "--json"}) == 0);
  CHECK_FALSE(nlohmann::json::parse(keelctl.out).contains("imbalance_mean"));
}

TEST_CASE("maps are written as they change, one file for each run", "[simulate]") {
  Keelctl keelctl;
  REQUIRE(keelctl.Run({"--slots-per-rank=2", "--policy=greedy", "--interval=4", "--maps=" + keelctl.folder.At("m")}) ==
          0);
  std::istringstream lines(Read(keelctl.folder.At("m")));
  std::set<int> windows;
  for (std::string line; std::getline(lines, line);) {
    const auto map = nlohmann::json::parse(line);
    windows.insert(map["window"].get<int>());
    CHECK(map["slots"].size() == 8);
    CHECK_FALSE(map.contains("shares"));
  }
  CHECK(windows == std::set<int>{0, 4, 8});
  REQUIRE(keelctl.Run({"--slots-per-rank=2", "--policy=greedy", "--interval=2,4", "--shares",
                       "--maps=" + keelctl.folder.At("m.jsonl")}) == 0);
  CHECK(Read(keelctl.folder.At("m.greedy-2.jsonl")).find("\"shares\":[[0,") != std::string::npos);
  CHECK(fs::exists(keelctl.folder.At("m.greedy-4.jsonl")));
  CHECK(keelctl.Run({"--slots-per-rank=2", "--policy=greedy", "--maps=/nowhere/at/all"}) != 0);
  CHECK(keelctl.Complains("write /nowhere/at/all"));
}

TEST_CASE("moves take time when bytes, links and windows are given", "[simulate]") {
  Keelctl keelctl;
  const std::vector<std::string> slow = {"--slots-per-rank=2",  "--policy=greedy",      "--interval=4",
                                         "--expert-bytes=1000", "--link-gbps=0.000005", "--window-seconds=1"};
  REQUIRE(keelctl.Run(slow) == 0);
  CHECK(keelctl.Says("RETIRED"));
  CHECK(keelctl.Run({"--slots-per-rank=2", "--policy=greedy", "--expert-bytes=1000"}) == 2);
  CHECK(keelctl.Complains("go together"));
}

TEST_CASE("costs and capacities are planned by and judged beside tokens", "[simulate]") {
  Keelctl keelctl;
  const std::vector<std::string> plain = {"--slots-per-rank=3", "--policy=flex,greedy", "--interval=2", "--json"};
  REQUIRE(keelctl.Run(plain) == 0);
  const auto tokens = nlohmann::json::parse(keelctl.out);
  for (const auto& run : tokens["runs"]) CHECK_FALSE(run.contains("imbalance_by_cost_mean"));
  CHECK_FALSE(tokens.contains("cost_per_expert"));
  std::vector<std::string> by_cost = plain;
  by_cost.insert(by_cost.end(), {"--cost=200,1", "--capacities=1,1,1,3", "--report", keelctl.folder.At("cost.html")});
  REQUIRE(keelctl.Run(by_cost) == 0);
  const auto cost = nlohmann::json::parse(keelctl.out);
  CHECK(cost["cost_per_expert"] == 200);
  CHECK(cost["capacities"] == nlohmann::json({1, 1, 1, 3}));
  CHECK(cost["runs"][0]["imbalance_mean"] == tokens["runs"][0]["imbalance_mean"]);
  CHECK(cost["best_placement_lower_bound"] == tokens["best_placement_lower_bound"]);
  CHECK(cost["best_placement_found"] == tokens["best_placement_found"]);
  for (const auto& run : cost["runs"]) {
    CHECK(run["imbalance_by_cost_with_best_shares"] <= run["imbalance_by_cost_mean"]);
    CHECK(run["imbalance_by_cost_mean"] <= run["imbalance_by_cost_p95"]);
  }
  CHECK(cost["runs"][1]["imbalance_by_cost_mean"] < cost["runs"][0]["imbalance_by_cost_mean"]);
  CHECK(Read(keelctl.folder.At("cost.html")).find("\"found_by_cost\":") != std::string::npos);
  by_cost.erase(std::ranges::find(by_cost, "--json"));
  REQUIRE(keelctl.Run(by_cost) == 0);
  CHECK(keelctl.Says("BY COST"));
}

TEST_CASE("a static map is compared with policies, and moves once", "[simulate]") {
  Keelctl keelctl;
  const std::string map = keelctl.folder.At("map.yaml");
  REQUIRE(WriteFile(map,
                    "num_slots: 8\ninitial_global_assignments:\n  0: [5, 4, 3, 2, 1, 0, 2, 2]\n"
                    "  1: [2, 0, 2, 1, 2, 3, 4, 5]\n")
              .ok());
  REQUIRE(keelctl.Run({"--slots-per-rank=2", "--policy=static,greedy", "--interval=2", "--map", map, "--json"}) == 0);
  const auto json = nlohmann::json::parse(keelctl.out);
  CHECK(json["runs"][1]["policy"] == "static");
  CHECK(json["runs"][1]["moves"] == 0);  // before the windows that are scored
  CHECK(json["runs"][1]["imbalance_mean"] != json["runs"][0]["imbalance_mean"]);
  CHECK(keelctl.Run({"--slots-per-rank=2", "--policy=static"}) == 2);
  CHECK(keelctl.Complains("--policy=static and --map go together"));
  CHECK(keelctl.Run({"--slots-per-rank=3", "--policy=static", "--map", map}) == 2);
  CHECK(keelctl.Complains("a map of 2 layers and 2 slots a rank; the simulation has 2 and 3"));
}

TEST_CASE("what is wrong is named, with the option or the place", "[simulate]") {
  Keelctl keelctl;
  const auto [options, complaint] = GENERATE(table<std::vector<std::string>, std::string>({
      {std::vector<std::string>{}, "--slots-per-rank"},
      {{"--slots-per-rank=1"}, "room for 4"},
      {{"--slots-per-rank=2", "--history=0"}, "--history=0"},
      {{"--slots-per-rank=2", "--policy=nobody"}, "policy 'nobody'"},
      {{"--slots-per-rank=2", "--policy=greedy,greedy"}, "named twice"},
      {{"--slots-per-rank=2", "--policy=greedy", "--interval=0"}, "--interval=0"},
      {{"--slots-per-rank=2", "--policy=greedy", "--interval=2,x"}, "'x' is no number of windows"},
      {{"--slots-per-rank=2", "--policy=greedy", "--policy-config=colour=1"}, "an option colour"},
      {{"--slots-per-rank=2", "--nodes=3"}, "--nodes=3"},
      {{"--slots-per-rank=2", "--cost=0,0"}, "--cost=0,0"},
      {{"--slots-per-rank=2", "--cost=nan,1"}, "--cost=nan,1"},
      {{"--slots-per-rank=2", "--capacities=1,1"}, "--capacities=1,1: 2 numbers; wanted are 4"},
  }));
  CAPTURE(complaint);
  CHECK(keelctl.Run(options) == 2);
  CHECK(keelctl.Complains(complaint));
  CHECK(keelctl.out.empty());
}

TEST_CASE("files that cannot be written are named before anything is run, and nothing is left of them", "[simulate]") {
  Keelctl keelctl;
  const auto refused = [&](std::vector<std::string> options, const std::string& complaint) {
    options.insert(options.begin(), {"--slots-per-rank=2", "--policy=greedy"});
    CAPTURE(options);
    CHECK(keelctl.Run(options, true) == 2);
    CHECK(keelctl.Complains(complaint));
    CHECK_FALSE(keelctl.Complains("of 24"));  // the bar
    CHECK(keelctl.out.empty());
  };
  const std::string at = keelctl.folder.path.string();
  refused({"--maps=" + at + "/x", "--report=" + at + "/x"}, "--maps and --report are one file");
  refused({"--maps=" + at + "/x", "--report=" + at + "/../" + keelctl.folder.path.filename().string() + "/x"},
          "--maps and --report are one file");
  refused({"--report=" + at + "/t.npy"}, "would replace what is read: TIMELINE is that file");
  refused({"--maps=" + at}, "it is a folder");
  refused({"--report=" + at + "/no/r.html"}, "--report: write " + at + "/no/r.html: there is no such folder");
  CHECK(std::distance(fs::directory_iterator(keelctl.folder.path), {}) == 1);  // t.npy
}

TEST_CASE("maps have their name when they are whole", "[simulate]") {
  Keelctl keelctl;
  REQUIRE(WriteFile(keelctl.folder.At("m"), "old").ok());
  {
    const auto file = OutFile::Create(keelctl.folder.At("m"));
    REQUIRE(file.ok());
    (*file)->Write("new, ");
    CHECK(Read(keelctl.folder.At("m")) == "old");
  }
  CHECK(Read(keelctl.folder.At("m")) == "old");
  CHECK(std::distance(fs::directory_iterator(keelctl.folder.path), {}) == 2);
  const auto file = OutFile::Create(keelctl.folder.At("m"));
  REQUIRE(file.ok());
  (*file)->Write("new, ");
  (*file)->Write("whole");
  REQUIRE((*file)->Commit().ok());
  CHECK(Read(keelctl.folder.At("m")) == "new, whole");
  CHECK(std::distance(fs::directory_iterator(keelctl.folder.path), {}) == 2);
}

TEST_CASE("a timeline must be one", "[simulate]") {
  Keelctl keelctl;
  CHECK(keelctl.RunWords({"simulate"}) == 2);
  CHECK(keelctl.Complains("TIMELINE is missing"));
  const auto refused = [&](const std::string& text, const std::string& complaint) {
    CAPTURE(text);
    REQUIRE(WriteFile(keelctl.folder.At("bad.json"), text).ok());
    CHECK(keelctl.RunWords({"simulate", keelctl.folder.At("bad.json"), "--ranks=2", "--slots-per-rank=2"}) == 2);
    CHECK(keelctl.Complains(complaint));
  };
  refused("[[[1, 2], [3]]]", "bad.json");
  refused("[[[1, -2]]]", "bad.json");
  refused("[[[1, 2]], [[0, 0]]]", "bad.json");
  refused("[[[1, 2]], [[3, 4]]]", "--warmup=100 leaves nothing to score of 2 windows");
}

TEST_CASE("the page stands alone, holds the figures, and cannot be broken by a name", "[simulate]") {
  Keelctl keelctl;
  const std::string evil = keelctl.folder.At("<script>.npy");
  fs::create_directories(fs::path(evil).parent_path());
  fs::copy_file(keelctl.folder.At("t.npy"), evil);
  REQUIRE(keelctl.RunWords({"simulate", evil, "--ranks=4", "--slots-per-rank=2", "--warmup=4", "--policy=greedy",
                            "--interval=4", "--report=" + keelctl.folder.At("r.html")}) == 0);
  const std::string page = Read(keelctl.folder.At("r.html"));
  for (const char* outside : {"http:", "https:", "src=", "@import", "url(", "@DATA@", "<script>.npy"}) {
    CAPTURE(outside);
    CHECK(page.find(outside) == std::string::npos);
  }
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(open) + open.size();
  const auto data = nlohmann::json::parse(page.substr(begin, page.find("</script>", begin) - begin));
  CHECK(data["timeline"] == evil);
  CHECK(data["heat"].size() == 2);
  CHECK(data["runs"].size() == 2);
  CHECK(data["runs"][1]["layers"][1]["ranks"].size() == 4);
  CHECK(data["ends"].size() == 12);
}

TEST_CASE("long and wide timelines are drawn coarser", "[simulate]") {
  const int num_layers = 3;
  std::vector<algos::Load> timeline(700, algos::Load{.num_layers = num_layers, .num_experts = 8, .tokens = {}});
  for (algos::Load& load : timeline) load.tokens.assign(24, 100);
  const SimulationOptions options{.shape = {.num_experts = 8, .num_ranks = 4, .slots_per_rank = 3},
                                  .policies = {"greedy"}};
  const auto simulation = Simulate(timeline, options);
  REQUIRE(simulation.ok());
  const std::string page = RenderReport({"long", timeline, options, *simulation});
  CHECK(page.find("\"windows\":700") != std::string::npos);
  const std::string open = "id=\"data\">";
  const size_t begin = page.find(open) + open.size();
  const auto data = nlohmann::json::parse(page.substr(begin, page.find("</script>", begin) - begin));
  CHECK(data["ends"].size() == kPointsMax);
  CHECK(data["ends"].back() == 700);
  CHECK(data["heat_ends"].size() == kLayerPointsMax);
  CHECK(data["runs"][1]["imbalance"].size() == kPointsMax);
}

TEST_CASE("a bar is drawn on terminals alone, and wiped away", "[simulate]") {
  Keelctl keelctl;
  REQUIRE(keelctl.Run({"--slots-per-rank=2", "--policy=greedy"}, true) == 0);
  CHECK(keelctl.Complains("100%  greedy"));
  CHECK(keelctl.err.ends_with("\r\033[2K"));
  std::ostringstream out;
  {
    Progress progress(out, true, 4);
    for (int i = 0; i < 6; ++i) progress.Step("x");
  }
  CHECK(out.str().find("[") != std::string::npos);
  CHECK(out.str().find(" 25%  x") != std::string::npos);
  CHECK(out.str().find("100%  x") != std::string::npos);
}

}  // namespace
}  // namespace evenkeel::cli
