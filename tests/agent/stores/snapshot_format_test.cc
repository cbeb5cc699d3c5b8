// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/snapshot_format.h"

#include "catch2/catch.hpp"

#include "agent/stores/store_identity.h"

namespace evenkeel::agent {
namespace {

StoreIdentity Identity() {
  return {.group = "chat",
          .model = "moe",
          .weights_version = 3,
          .manifest_digest = 99,
          .num_layers = 2,
          .num_experts = 16,
          .tensor_bytes = {{100, 7}, {64}}};
}

SnapshotHeader Header() { return HeaderOf(Identity(), {LayerId(0), {ExpertId(4), 3}}, {11, 12, 13}); }

TEST_CASE("a snapshot's name says layer and experts, and nothing else is one", "[snapshot_format]") {
  const SnapshotName name = {LayerId(3), {ExpertId(8), 8}};
  CHECK(Render(name) == "layer-00003.experts-00008-00015.snapshot");
  CHECK(ParseSnapshotName(Render(name)) == name);
  const SnapshotName large = {LayerId(123456), {ExpertId(1000000), 1}};
  CHECK(ParseSnapshotName(Render(large)) == large);
  for (const char* text : {"", "layer-3.experts-8-15.snapshot", "layer-00003.experts-00015-00008.snapshot",
                           "layer-00003.experts-00008-00015.snapshot.rank-3.new", "layer-00003.experts-00008.snapshot",
                           "layer-000003.experts-00008-00015.snapshot", "layer--0003.experts-00008-00015.snapshot",
                           "layer-99999999999.experts-00008-00015.snapshot"}) {
    CAPTURE(text);
    CHECK_FALSE(ParseSnapshotName(text).has_value());
  }
}

TEST_CASE("a header says where each expert lies", "[snapshot_format]") {
  const SnapshotHeader header = Header();
  CHECK(header.data_at() == 4096);
  CHECK(header.PlaceOf(ExpertId(4), 0) == 4096);
  CHECK(header.PlaceOf(ExpertId(6), 1) == 4096 + 2 * 192 + 128);
  CHECK(header.total_bytes() == 4096 + 3 * 192);
  CHECK(header.FingerprintOf(ExpertId(5)) == 12);
}

TEST_CASE("a header comes back as it was, and not from a changed or cut one", "[snapshot_format]") {
  const std::string bytes = Encode(Header());
  const absl::StatusOr<SnapshotHeader> back = DecodeSnapshotHeader(bytes);
  REQUIRE(back.ok());
  CHECK(*back == Header());
  for (size_t i = 0; i < bytes.size(); ++i) {
    CAPTURE(i);
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 0x10);
    CHECK_FALSE(DecodeSnapshotHeader(changed).ok());
    CHECK(absl::IsDataLoss(DecodeSnapshotHeader(bytes.substr(0, i)).status()));
  }
  CHECK_FALSE(DecodeSnapshotHeader(bytes + "x").ok());
}

TEST_CASE("headers with parts that do not add up are refused even with a right digest", "[snapshot_format]") {
  const auto refused = [](auto change) {
    SnapshotHeader header = Header();
    change(header);
    return absl::IsDataLoss(DecodeSnapshotHeader(Encode(header)).status());
  };
  CHECK(refused([](SnapshotHeader& h) { h.name.layer = LayerId(2); }));
  CHECK(refused([](SnapshotHeader& h) { h.name.range.first = ExpertId(14); }));
  CHECK(refused([](SnapshotHeader& h) { h.name.range.count = 2; }));
  CHECK(refused([](SnapshotHeader& h) { h.name.range.count = 4; }));
  CHECK(refused([](SnapshotHeader& h) { h.tensor_bytes[0] = uint64_t{1} << 41; }));
  CHECK(refused([](SnapshotHeader& h) {
    h.name.range.count = 0;
    h.fingerprints.clear();
  }));
}

TEST_CASE("snapshots of other weights are refused by name of what differs", "[snapshot_format]") {
  const SnapshotName name = Header().name;
  const uint64_t bytes = Header().total_bytes();
  const auto check = [&](auto change) {
    StoreIdentity wanted = Identity();
    change(wanted);
    return CheckHeader("open x", Header(), name, bytes, wanted);
  };
  CHECK(check([](StoreIdentity&) {}).ok());
  CHECK(check([](StoreIdentity& i) { i.group = "other"; }).ok());
  const absl::Status model = check([](StoreIdentity& i) { i.model = "dense"; });
  CHECK(absl::IsFailedPrecondition(model));
  CHECK(model.message() == "open x: it is of model moe, wanted dense");
  CHECK(check([](StoreIdentity& i) { i.weights_version = 4; }).message() ==
        "open x: it is of weights version 3, wanted 4");
  CHECK(absl::IsFailedPrecondition(check([](StoreIdentity& i) { i.manifest_digest = 1; })));
  CHECK(absl::IsFailedPrecondition(check([](StoreIdentity& i) { i.num_experts = 32; })));
  CHECK(absl::IsFailedPrecondition(check([](StoreIdentity& i) { i.tensor_bytes[0][1] = 8; })));
  CHECK(absl::IsDataLoss(CheckHeader("open x", Header(), name, bytes - 1, Identity())));
  CHECK(absl::IsDataLoss(CheckHeader("open x", Header(), {LayerId(1), name.range}, bytes, Identity())));
}

}  // namespace
}  // namespace evenkeel::agent
