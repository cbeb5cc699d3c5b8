// SPDX-License-Identifier: Apache-2.0
#include "proto/convert_agent.h"

#include <functional>
#include <limits>
#include <string>

#include "catch2/catch.hpp"
#include "google/protobuf/stubs/logging.h"

#include "algos/base/rng.h"
#include "proto/evenkeel/v1/agent.pb.h"
#include "tests/proto/examples.h"

namespace evenkeel::proto {
namespace {

// Through the wire's bytes and back; the group is told unless `value` is Attach.
absl::StatusOr<AgentMessage> ThereAndBack(const AgentMessage& value) {
  v1::AgentMessage sent, received;
  ToProto(value, &sent);
  if (!received.ParseFromString(sent.SerializeAsString())) return absl::InternalError("parse");
  const GroupInfo group = ExampleGroup();
  return FromProto(received, std::holds_alternative<Attach>(value) ? nullptr : &group);
}

template <typename T>
T Returned(const T& value) {
  const absl::StatusOr<AgentMessage> back = ThereAndBack(value);
  INFO(back.status().ToString());
  REQUIRE(back.ok());
  REQUIRE(std::holds_alternative<T>(*back));
  return std::get<T>(*back);
}

// The error of `message` after `spoil` was applied to it.
std::string ErrorOf(const AgentMessage& value, const std::function<void(v1::AgentMessage&)>& spoil) {
  v1::AgentMessage message;
  ToProto(value, &message);
  spoil(message);
  const GroupInfo group = ExampleGroup();
  const absl::StatusOr<AgentMessage> back =
      FromProto(message, std::holds_alternative<Attach>(value) ? nullptr : &group);
  if (back.ok()) return "accepted";
  CHECK(back.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(back.status().message());
}

TEST_CASE("attach returns unchanged from the wire", "[convert_agent]") {
  const Attach sent = ExampleAttach();
  const Attach back = Returned(sent);
  CHECK(back.group == sent.group);
  CHECK(back.member == sent.member);
  CHECK(back.endpoints == sent.endpoints);
  CHECK(back.term_obeyed == sent.term_obeyed);
  CHECK(back.epoch == sent.epoch);
  CHECK(back.maps_digest == sent.maps_digest);
  CHECK(back.quiesced_epoch == sent.quiesced_epoch);
  CHECK(back.view == sent.view);
  CHECK(back.joining == sent.joining);
  CHECK(back.suspended == sent.suspended);
  CHECK(back.slots == sent.slots);
}

TEST_CASE("a load report returns unchanged from the wire", "[convert_agent]") {
  const LoadReport sent = ExampleReport();
  const LoadReport back = Returned(sent);
  CHECK(back.time == sent.time);
  CHECK(back.first_step == sent.first_step);
  CHECK(back.last_step == sent.last_step);
  CHECK(back.entries == sent.entries);
  CHECK(back.num_unrouted_tokens == sent.num_unrouted_tokens);
}

TEST_CASE("a load report without phases, or of one of them, says so in fewer bytes", "[convert_agent]") {
  LoadReport report = ExampleReport();
  v1::AgentMessage message;
  for (LoadReport::Entry& entry : report.entries) entry.prefill_tokens = 0;
  ToProto(report, &message);
  CHECK(message.load_report().prefill_tokens_size() == 0);
  CHECK(message.load_report().decode_tokens_size() == 2);
  CHECK(Returned(report).entries == report.entries);
  for (LoadReport::Entry& entry : report.entries) entry.decode_tokens = 0;
  ToProto(report, &message);
  CHECK(message.load_report().decode_tokens_size() == 0);
  CHECK(Returned(report).entries == report.entries);
}

TEST_CASE("the smaller messages return unchanged from the wire", "[convert_agent]") {
  const Quiesced quiesced = Returned(Quiesced{{1, 2}, 3, 4});
  CHECK(quiesced.epoch == Epoch{1, 2});
  CHECK(quiesced.maps_digest == 3);
  CHECK(quiesced.view_number == 4);

  const MapsRefused refused = Returned(MapsRefused{{1, 3}, {1, 2}, 55, "slot 3 is not verified"});
  CHECK(refused.epoch == Epoch{1, 3});
  CHECK(refused.held_epoch == Epoch{1, 2});
  CHECK(refused.held_digest == 55);
  CHECK(refused.reason == "slot 3 is not verified");

  const EngineStatus status = Returned(EngineStatus{.alive = true,
                                                    .idle = true,
                                                    .called_begin_step = true,
                                                    .called_end_step = false,
                                                    .called_route = true,
                                                    .num_steps = 12,
                                                    .num_calls_waited = 1,
                                                    .oldest_open_step = absl::Microseconds(1234),
                                                    .waiting_for = {RankId(0), RankId(3)},
                                                    .mean_step_time = absl::Microseconds(8750),
                                                    .steps_per_second = 112.5});
  CHECK((status.alive && status.idle && status.called_begin_step && status.called_route));
  CHECK_FALSE(status.called_end_step);
  CHECK(status.num_steps == 12);
  CHECK(status.num_calls_waited == 1);
  CHECK(status.oldest_open_step == absl::Microseconds(1234));
  CHECK(status.waiting_for == std::vector<RankId>{RankId(0), RankId(3)});
  CHECK(status.mean_step_time == absl::Microseconds(8750));
  CHECK(status.steps_per_second == 112.5);
  EngineStatus quick;
  quick.mean_step_time = absl::Nanoseconds(300);
  CHECK(Returned(quick).mean_step_time == absl::Microseconds(1));
  CHECK(Returned(EngineStatus{}).mean_step_time == absl::ZeroDuration());
}

TEST_CASE("what became of a move returns unchanged from the wire", "[convert_agent]") {
  const MoveFinished finished =
      Returned(MoveFinished{5, LayerId(1), SlotIdx(11), 7, 0xABCDEF, 1 << 20, absl::Milliseconds(3), 2});
  CHECK(finished.move_id == 5);
  CHECK(finished.layer == LayerId(1));
  CHECK(finished.slot == SlotIdx(11));
  CHECK(finished.generation == 7);
  CHECK(finished.fingerprint == 0xABCDEF);
  CHECK(finished.bytes == 1 << 20);
  CHECK(finished.elapsed == absl::Milliseconds(3));
  CHECK(finished.num_mismatches == 2);

  const MoveFailed failed =
      Returned(MoveFailed{6, LayerId(0), SlotIdx(1), 8, absl::DataLossError("fingerprint"), true, RankId(2), 4});
  CHECK(failed.status == absl::DataLossError("fingerprint"));
  CHECK(failed.content_kept);
  CHECK(failed.source == RankId(2));
  CHECK(failed.num_mismatches == 4);
  CHECK_FALSE(
      Returned(MoveFailed{6, LayerId(0), SlotIdx(1), 8, absl::AbortedError(""), false, RankId()}).source.valid());

  const SlotLost lost = Returned(SlotLost{LayerId(1), SlotIdx(2), 3});
  CHECK(lost.layer == LayerId(1));
  CHECK(lost.slot == SlotIdx(2));
  CHECK(lost.generation == 3);
}

TEST_CASE("the first message of a stream is attach and no later one is", "[convert_agent]") {
  v1::AgentMessage message;
  ToProto(Quiesced{{1, 2}, 3, 4}, &message);
  CHECK(FromProto(message, nullptr).status().message() == "the first message of a stream is not attach");
  ToProto(ExampleAttach(), &message);
  const GroupInfo group = ExampleGroup();
  CHECK(FromProto(message, &group).status().message() == "attach is not the first message of its stream");
  message.Clear();
  CHECK_FALSE(FromProto(message, &group).ok());
  CHECK_FALSE(FromProto(message, nullptr).ok());
}

TEST_CASE("a malformed attach is refused by the name of its field", "[convert_agent]") {
  const auto error = [](const std::function<void(v1::Attach&)>& spoil) {
    return ErrorOf(ExampleAttach(), [&](v1::AgentMessage& message) { spoil(*message.mutable_attach()); });
  };
  CHECK(error([](v1::Attach&) {}) == "accepted");
  CHECK(error([](v1::Attach& a) { a.clear_group(); }) == "attach.group is missing");
  CHECK(error([](v1::Attach& a) { a.clear_member(); }) == "attach.member is missing");
  CHECK(error([](v1::Attach& a) { a.mutable_group()->clear_name(); }) == "attach.group.name is empty");
  CHECK(error([](v1::Attach& a) { a.mutable_group()->set_name(std::string(257, 'x')); }) ==
        "attach.group.name is 257 bytes long: at most 256 wanted");
  CHECK(error([](v1::Attach& a) { a.mutable_group()->set_model("a\nb"); }) ==
        "attach.group.model has control character 10 at byte 1");
  CHECK(error([](v1::Attach& a) { a.mutable_member()->set_rank(4); }) ==
        "attach.member.rank is 4: one of the group's 4 ranks, 0 to 3, wanted");
  CHECK(error([](v1::Attach& a) { a.mutable_member()->set_incarnation(0); }) ==
        "attach.member.incarnation is 0: another number than 0 wanted");
  CHECK(error([](v1::Attach& a) { a.mutable_group()->set_num_nodes(3); }) ==
        "attach.group.num_nodes is 3: a divisor of 4 wanted");
  CHECK(error([](v1::Attach& a) { a.mutable_group()->set_num_layers(4097); }) ==
        "attach.group.num_layers is 4097: 1 to 4096 wanted");
  CHECK(error([](v1::Attach& a) { a.mutable_group()->clear_routing(); }) ==
        "attach.group.routing is 0: a known routing wanted");
  CHECK(error([](v1::Attach& a) { a.mutable_group()->set_count_place(static_cast<v1::CountPlace>(9)); }) ==
        "attach.group.count_place is 9: a known place of counting wanted");
}

TEST_CASE("sizes that would allocate without bound are refused", "[convert_agent]") {
  const auto error = [](uint32_t experts, uint32_t ranks, uint32_t slots, uint32_t layers) {
    return ErrorOf(ExampleAttach(), [&](v1::AgentMessage& message) {
      v1::GroupInfo& group = *message.mutable_attach()->mutable_group();
      group.mutable_shape()->set_num_experts(experts);
      group.mutable_shape()->set_num_ranks(ranks);
      group.mutable_shape()->set_slots_per_rank(slots);
      group.set_num_layers(layers);
    });
  };
  CHECK(error(8, 4, 0xFFFFFFFFu, 2) == "attach.group.shape.slots_per_rank is 4294967295: 1 to 65536 wanted");
  CHECK(error(8, 65536, 65536, 2) ==
        "attach.group.shape.num_ranks * slots_per_rank is 4294967296: 1 to 1048576 wanted");
  CHECK(error(8, 1024, 1024, 4096) == "attach.group.num_layers * slots per layer is 4294967296: 1 to 4194304 wanted");
  CHECK(error(13, 4, 3, 2).find("attach.group.shape: ") == 0);
  CHECK(error(0, 4, 3, 2) == "attach.group.shape.num_experts is 0: 1 to 65536 wanted");
}

TEST_CASE("an inventory that does not fit the group is refused", "[convert_agent]") {
  const auto error = [](const std::function<void(v1::SlotInventory&)>& spoil) {
    return ErrorOf(ExampleAttach(),
                   [&](v1::AgentMessage& message) { spoil(*message.mutable_attach()->mutable_slots()); });
  };
  CHECK(error([](v1::SlotInventory& s) { s.mutable_states()->RemoveLast(); }) ==
        "the length of attach.slots.states is 5: 6 to 6 wanted");
  CHECK(error([](v1::SlotInventory& s) { s.add_experts(1); }) ==
        "the length of attach.slots.experts is 7: 6 to 6 wanted");
  CHECK(error([](v1::SlotInventory& s) { s.clear_generations(); }) ==
        "the length of attach.slots.generations is 0: 6 to 6 wanted");
  CHECK(error([](v1::SlotInventory& s) { s.mutable_fingerprints()->Truncate(3); }) ==
        "the length of attach.slots.fingerprints is 3: 6 to 6 wanted");
  CHECK(error([](v1::SlotInventory& s) { s.set_states(2, 4); }) == "attach.slots.states[2] is 4: 0 to 3 wanted");
  CHECK(error([](v1::SlotInventory& s) { s.set_experts(1, -2); }) ==
        "attach.slots.experts[1] is -2: -1 or an expert wanted");
  CHECK(error([](v1::SlotInventory& s) { s.set_experts(1, 8); }) ==
        "attach.slots.experts[1] is 8: one of the group's 8 experts, 0 to 7, wanted");
  CHECK(error([](v1::SlotInventory& s) { s.set_experts(2, -1); }) ==
        "attach.slots.experts[2] is -1: the expert of a verified slot wanted");
}

TEST_CASE("a malformed load report is refused by the name of its field", "[convert_agent]") {
  const auto error = [](const std::function<void(v1::LoadReport&)>& spoil) {
    return ErrorOf(ExampleReport(), [&](v1::AgentMessage& message) { spoil(*message.mutable_load_report()); });
  };
  CHECK(error([](v1::LoadReport& r) { r.mutable_tokens()->RemoveLast(); }) ==
        "the length of load_report.tokens is 1: 2 to 2 wanted");
  CHECK(error([](v1::LoadReport& r) { r.set_layers(1, 2); }) ==
        "load_report.layers[1] is 2: one of the group's 2 layers, 0 to 1, wanted");
  CHECK(error([](v1::LoadReport& r) { r.set_slots(0, 12); }) ==
        "load_report.slots[0] is 12: one of the group's 12 slots per layer, 0 to 11, wanted");
  CHECK(error([](v1::LoadReport& r) { r.set_experts(0, 0xFFFFFFFFu); }) ==
        "load_report.experts[0] is 4294967295: one of the group's 8 experts, 0 to 7, wanted");
  CHECK(error([](v1::LoadReport& r) { r.set_tokens(0, (uint64_t{1} << 40) + 1); }) ==
        "load_report.tokens[0] is 1099511627777: 0 to 1099511627776 wanted");
  CHECK(error([](v1::LoadReport& r) { r.mutable_prefill_tokens()->RemoveLast(); }) ==
        "the length of load_report.prefill_tokens is 1: 2 to 2 wanted");
  CHECK(error([](v1::LoadReport& r) { r.add_decode_tokens(0); }) ==
        "the length of load_report.decode_tokens is 3: 2 to 2 wanted");
  const std::string together = "load_report.prefill_tokens[1] and decode_tokens is ";
  CHECK(error([](v1::LoadReport& r) { r.set_prefill_tokens(1, 1); }) ==
        together + "1 and 1: at most tokens, 1, together wanted");
  CHECK(error([](v1::LoadReport& r) { r.set_decode_tokens(1, UINT64_MAX); }) ==
        together + "0 and 18446744073709551615: at most tokens, 1, together wanted");
  CHECK(error([](v1::LoadReport& r) { r.set_time_unix_ns(-1); }) == "load_report.time_unix_ns is -1: a time wanted");
  CHECK(error([](v1::LoadReport& r) { r.set_first_step(21); }) ==
        "load_report.first_step is 21: at most last_step, 20, wanted");
  CHECK(error([](v1::LoadReport& r) {
          for (int i = 0; i < 100; ++i) r.add_layers(0);
        }) == "the length of load_report.layers is 102: 0 to 96 wanted");
}

TEST_CASE("other malformed messages are refused by the name of their field", "[convert_agent]") {
  CHECK(ErrorOf(EngineStatus{}, [](v1::AgentMessage& m) {
          m.mutable_engine_status()->set_oldest_open_step_us(-1);
        }).find("engine_status.oldest_open_step_us is -1") == 0);
  CHECK(ErrorOf(EngineStatus{}, [](v1::AgentMessage& m) {
          m.mutable_engine_status()->set_mean_step_time_us(-1);
        }).find("engine_status.mean_step_time_us is -1") == 0);
  for (const double rate : {-1.0, 1e12, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK(ErrorOf(EngineStatus{}, [rate](v1::AgentMessage& m) {
            m.mutable_engine_status()->set_steps_per_second(rate);
          }).find("engine_status.steps_per_second is ") == 0);
  }
  CHECK(ErrorOf(EngineStatus{}, [](v1::AgentMessage& m) {
          m.mutable_engine_status()->add_waiting_for_ranks(4);
        }).find("engine_status.waiting_for_ranks is 4") == 0);
  const MoveFailed failed{6, LayerId(0), SlotIdx(1), 8, absl::AbortedError("x"), false, RankId()};
  CHECK(ErrorOf(failed, [](v1::AgentMessage& m) { m.mutable_move_failed()->mutable_error()->set_code(0); }) ==
        "move_failed.error.code is 0: an error wanted");
  CHECK(ErrorOf(failed, [](v1::AgentMessage& m) { m.mutable_move_failed()->set_source_rank(-2); }) ==
        "move_failed.source_rank is -2: -1 or a rank wanted");
  CHECK(ErrorOf(failed, [](v1::AgentMessage& m) {
          m.mutable_move_failed()->set_layer(2);
        }).find("move_failed.layer is 2") == 0);
  CHECK(ErrorOf(Quiesced{}, [](v1::AgentMessage& m) { m.mutable_quiesced()->clear_epoch(); }) ==
        "quiesced.epoch is missing");
}

TEST_CASE("sentences from elsewhere are tamed, not refused", "[convert_agent]") {
  const std::string wild = "line\nbreak \xC3\xA9" + std::string(5000, 'x');
  const MapsRefused refused = Returned(MapsRefused{{1, 3}, {1, 2}, 55, wild});
  CHECK(refused.reason.size() == 4096);
  CHECK(refused.reason.substr(0, 13) == "line?break ??");
}

TEST_CASE("random bytes and flipped bits never do harm", "[convert_agent]") {
  const uint64_t seed = GENERATE(1, 2, 3, 4);
  CAPTURE(seed);
  google::protobuf::LogSilencer silencer;
  Rng rng(seed);
  const GroupInfo group = ExampleGroup();
  const AgentMessage values[] = {ExampleAttach(), ExampleReport(), Quiesced{{1, 2}, 3, 4},
                                 MoveFailed{6, LayerId(0), SlotIdx(1), 8, absl::AbortedError("x"), false, RankId()}};
  int num_parsed = 0;
  for (int round = 0; round < 3000; ++round) {
    v1::AgentMessage message;
    ToProto(values[rng.Below(4)], &message);
    std::string bytes = message.SerializeAsString();
    for (int flips = static_cast<int>(rng.Below(4)) + 1; flips > 0; --flips) {
      bytes[rng.Below(bytes.size())] ^= static_cast<char>(1 << rng.Below(8));
    }
    if (rng.Chance(0.2)) bytes.resize(rng.Below(bytes.size() + 1));
    if (!message.ParseFromString(bytes)) continue;
    ++num_parsed;
    const absl::StatusOr<AgentMessage> value = FromProto(message, message.has_attach() ? nullptr : &group);
    if (!value.ok()) {
      CHECK(value.status().code() == absl::StatusCode::kInvalidArgument);
      continue;
    }
    // What was accepted is valid: it survives the way back.
    ToProto(*value, &message);
    CHECK(FromProto(message, message.has_attach() ? nullptr : &group).ok());
  }
  CHECK(num_parsed > 100);
}

}  // namespace
}  // namespace evenkeel::proto
