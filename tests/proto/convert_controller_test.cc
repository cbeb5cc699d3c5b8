// SPDX-License-Identifier: Apache-2.0
#include "proto/convert_controller.h"

#include <functional>
#include <string>

#include "catch2/catch.hpp"
#include "google/protobuf/stubs/logging.h"

#include "algos/base/rng.h"
#include "proto/evenkeel/v1/agent.pb.h"
#include "tests/proto/examples.h"

namespace evenkeel::proto {
namespace {

template <typename T>
T Returned(const T& value) {
  v1::ControllerMessage sent, received;
  ToProto(ControllerMessage(value), &sent);
  REQUIRE(received.ParseFromString(sent.SerializeAsString()));
  const absl::StatusOr<ControllerMessage> back = FromProto(received, ExampleGroup());
  INFO(back.status().ToString());
  REQUIRE(back.ok());
  REQUIRE(std::holds_alternative<T>(*back));
  return std::get<T>(*back);
}

std::string ErrorOf(const ControllerMessage& value, const std::function<void(v1::ControllerMessage&)>& spoil) {
  v1::ControllerMessage message;
  ToProto(value, &message);
  spoil(message);
  const absl::StatusOr<ControllerMessage> back = FromProto(message, ExampleGroup());
  if (back.ok()) return "accepted";
  CHECK(back.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(back.status().message());
}

TEST_CASE("welcome and refused return unchanged from the wire", "[convert_controller]") {
  const Welcome welcome{.term = 4,
                        .settings = {.report_interval = absl::Milliseconds(50),
                                     .bytes_per_second_max = uint64_t{1} << 40,
                                     .concurrent_moves_max = 9,
                                     .attempts_per_source = 2,
                                     .transport = "ucx",
                                     .scrub_interval = absl::ZeroDuration(),
                                     .pool_bytes = uint64_t{3} << 30,
                                     .snapshot_directory = "/srv/experts",
                                     .store_bytes_per_second = 12345}};
  CHECK(Returned(welcome).term == 4);
  CHECK(Returned(welcome).settings == welcome.settings);
  const absl::Status status = absl::FailedPreconditionError("another model");
  CHECK(Returned(Refused{status}).status == status);
  Returned(SlotsReleased{});
}

TEST_CASE("views and maps return unchanged from the wire", "[convert_controller]") {
  const View view{.number = 3, .members = {{RankId(0), 5}, {RankId(3), 6}}};
  CHECK(Returned(ViewUpdate{view}).view == view);
  const MapsUpdate sent = ExampleMaps();
  const MapsUpdate back = Returned(sent);
  CHECK(back.epoch == sent.epoch);
  CHECK(back.base_epoch == sent.base_epoch);
  CHECK(back.view_number == sent.view_number);
  CHECK(back.maps_digest == sent.maps_digest);
  CHECK(back.layers == sent.layers);
}

TEST_CASE("a map with a lost expert passes, for its tokens route to -1", "[convert_controller]") {
  MapsUpdate sent = ExampleMaps();
  algos::LayerMap& map = sent.layers[0].second;
  map = algos::EvenMap({.expert_of_slot = std::vector<ExpertId>(12, ExpertId(1))}, 8);
  CHECK(Returned(sent).layers == sent.layers);
}

TEST_CASE("move orders and cancels return unchanged from the wire", "[convert_controller]") {
  const MoveOrder sent = ExampleOrder();
  const MoveOrder back = Returned(sent);
  CHECK(back.move_id == sent.move_id);
  CHECK(back.layer == sent.layer);
  CHECK(back.expert == sent.expert);
  CHECK(back.slot == sent.slot);
  CHECK(back.generation == sent.generation);
  CHECK(back.fingerprint == sent.fingerprint);
  CHECK(back.retired_since == sent.retired_since);
  CHECK(back.deadline == sent.deadline);
  REQUIRE(back.sources.size() == 1);
  CHECK(back.sources[0].member == sent.sources[0].member);
  CHECK(back.sources[0].slot == sent.sources[0].slot);
  CHECK(back.sources[0].generation == sent.sources[0].generation);
  CHECK(back.sources[0].endpoint == sent.sources[0].endpoint);
  const CancelMove cancel = Returned(CancelMove{1, LayerId(1), SlotIdx(2), 3});
  CHECK((cancel.move_id == 1 && cancel.layer == LayerId(1) && cancel.slot == SlotIdx(2) && cancel.generation == 3));
}

TEST_CASE("malformed maps are refused by the name of their field", "[convert_controller]") {
  const auto error = [](const std::function<void(v1::LayerMap&)>& spoil) {
    return ErrorOf(ExampleMaps(), [&](v1::ControllerMessage& message) {
      spoil(*message.mutable_maps_update()->mutable_layers(0)->mutable_map());
    });
  };
  CHECK(error([](v1::LayerMap&) {}) == "accepted");
  CHECK(error([](v1::LayerMap& m) { m.mutable_replicas_of_expert()->RemoveLast(); }) ==
        "the length of maps_update.layers[0].map.replicas_of_expert is 7: 8 to 8 wanted");
  CHECK(error([](v1::LayerMap& m) {
          m.set_replicas_of_expert(0, 0xFFFFFFFFu);
        }).find("the sum of maps_update.layers[0].map.replicas_of_expert is 42949") == 0);
  CHECK(error([](v1::LayerMap& m) { m.mutable_slots()->Truncate(4); }) ==
        "the length of maps_update.layers[0].map.slots is 4: 12 to 12 wanted");
  CHECK(error([](v1::LayerMap& m) { m.clear_bounds(); }) ==
        "the length of maps_update.layers[0].map.bounds is 0: 12 to 12 wanted");
  CHECK(error([](v1::LayerMap& m) { m.set_slots(3, 12); }) ==
        "maps_update.layers[0].map.slots[3] is 12: a slot below 12 wanted");
  CHECK(error([](v1::LayerMap& m) { m.set_slots(0, m.slots(1)); }).find("maps_update.layers[0].map: ") == 0);
  CHECK(error([](v1::LayerMap& m) { m.set_bounds(11, 5); }).find("maps_update.layers[0].map: ") == 0);
}

TEST_CASE("updates that do not add up are refused", "[convert_controller]") {
  CHECK(ErrorOf(ExampleMaps(), [](v1::ControllerMessage& m) {
          m.mutable_maps_update()->mutable_layers(0)->set_layer(2);
        }).find("maps_update.layers[0].layer is 2") == 0);
  CHECK(ErrorOf(ExampleMaps(), [](v1::ControllerMessage& m) {
          *m.mutable_maps_update()->add_layers() = m.maps_update().layers(0);
        }) == "maps_update.layers[1].layer is 1: a layer above 1 wanted");
  CHECK(ErrorOf(ExampleMaps(), [](v1::ControllerMessage& m) {
          m.mutable_maps_update()->mutable_base_epoch()->set_number(9);
        }) == "maps_update.base_epoch is 3.9: at most epoch, 3.8, wanted");
  CHECK(ErrorOf(ExampleMaps(), [](v1::ControllerMessage& m) {
          m.mutable_maps_update()->mutable_base_epoch()->set_number(8);
        }).find("the length of maps_update.layers is 1: all 2 layers") == 0);
  CHECK(ErrorOf(ViewUpdate{{.number = 3, .members = {{RankId(2), 5}, {RankId(2), 6}}}},
                [](v1::ControllerMessage&) {}) == "view_update.view.members[1].rank is 2: a rank above 2 wanted");
  CHECK(ErrorOf(ViewUpdate{{.number = 0, .members = {{RankId(2), 5}}}}, [](v1::ControllerMessage&) {}) ==
        "the length of view_update.view.members is 1: 0 to 0 wanted");
}

TEST_CASE("malformed orders are refused by the name of their field", "[convert_controller]") {
  const auto error = [](const std::function<void(v1::MoveOrder&)>& spoil) {
    return ErrorOf(ExampleOrder(), [&](v1::ControllerMessage& message) { spoil(*message.mutable_move_order()); });
  };
  CHECK(error([](v1::MoveOrder& o) { o.clear_sources(); }) ==
        "the length of move_order.sources is 0: 1 to 4096 wanted");
  CHECK(error([](v1::MoveOrder& o) { o.set_deadline_ms(0); }) == "move_order.deadline_ms is 0: 1 to 86400000 wanted");
  CHECK(error([](v1::MoveOrder& o) { o.clear_retired_since(); }) == "move_order.retired_since is missing");
  CHECK(error([](v1::MoveOrder& o) { o.set_expert(8); }).find("move_order.expert is 8") == 0);
  CHECK(error([](v1::MoveOrder& o) { o.mutable_sources(0)->mutable_endpoint()->clear_transport(); }) ==
        "move_order.sources[0].endpoint.transport is empty");
  CHECK(error([](v1::MoveOrder& o) {
          o.mutable_sources(0)->mutable_endpoint()->set_address(std::string(4097, 'a'));
        }) == "the length of move_order.sources[0].endpoint.address is 4097: 0 to 4096 wanted");
  CHECK(ErrorOf(Welcome{.term = 1, .settings = {}}, [](v1::ControllerMessage& m) {
          m.mutable_welcome()->set_term(0);
        }) == "welcome.term is 0: a term wanted");
  CHECK(ErrorOf(Welcome{.term = 1, .settings = {}}, [](v1::ControllerMessage& m) {
          m.mutable_welcome()->mutable_settings()->set_report_interval_ms(0);
        }) == "welcome.settings.report_interval_ms is 0: 1 to 86400000 wanted");
  CHECK_FALSE(FromProto(v1::ControllerMessage(), ExampleGroup()).ok());
}

TEST_CASE("flipped bits in what the controller says never do harm", "[convert_controller]") {
  const uint64_t seed = GENERATE(1, 2, 3, 4);
  CAPTURE(seed);
  google::protobuf::LogSilencer silencer;
  Rng rng(seed);
  const ControllerMessage values[] = {ExampleMaps(), ExampleOrder(), Welcome{.term = 1, .settings = {}},
                                      ViewUpdate{{.number = 3, .members = {{RankId(0), 5}}}}};
  int num_parsed = 0;
  for (int round = 0; round < 3000; ++round) {
    v1::ControllerMessage message;
    ToProto(values[rng.Below(4)], &message);
    std::string bytes = message.SerializeAsString();
    for (int flips = static_cast<int>(rng.Below(4)) + 1; flips > 0; --flips) {
      bytes[rng.Below(bytes.size())] ^= static_cast<char>(1 << rng.Below(8));
    }
    if (!message.ParseFromString(bytes)) continue;
    ++num_parsed;
    const absl::StatusOr<ControllerMessage> value = FromProto(message, ExampleGroup());
    if (!value.ok()) {
      CHECK(value.status().code() == absl::StatusCode::kInvalidArgument);
      continue;
    }
    ToProto(*value, &message);
    CHECK(FromProto(message, ExampleGroup()).ok());
  }
  CHECK(num_parsed > 100);
}

}  // namespace
}  // namespace evenkeel::proto
