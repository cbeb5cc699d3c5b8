// SPDX-License-Identifier: Apache-2.0
//
// Files that are no region, or not one for this program.
#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "catch2/catch.hpp"

#include "algos/base/rng.h"
#include "engine/region/agent_region.h"
#include "engine/region/layout.h"
#include "engine/region/region_view.h"
#include "tests/engine/test_region.h"

namespace evenkeel::engine {
namespace {

absl::Status OpenAfter(const TestRegion& region, off_t offset, const void* bytes, size_t size) {
  const int fd = ::open(region.path().c_str(), O_RDWR);
  REQUIRE(::pwrite(fd, bytes, size, offset) == static_cast<ssize_t>(size));
  ::close(fd);
  return AgentRegion::Open(region.path()).status();
}

template <typename T>
off_t InFile(T RegionHeader::*member) {
  static const RegionHeader header = {};
  const auto* base = reinterpret_cast<const char*>(&header);
  return 64 + (reinterpret_cast<const char*>(&(header.*member)) - base);
}

}  // namespace

TEST_CASE("regions that are not ready, cut, of another version or garbage are refused with what is wrong",
          "[agent_region]") {
  const TestDirectory directory;
  const auto expect = [](const absl::Status& status, absl::StatusCode code, const std::string& text) {
    CHECK(status.code() == code);
    CHECK_THAT(std::string(status.message()), Catch::Contains(text));
  };
  TestRegion region(SmallOptions(directory));
  expect(AgentRegion::Open(region.path()).status(), absl::StatusCode::kUnavailable, "has not called evenkeel_ready");
  region.MakeReady();
  const uint32_t version = RegionHeader::kVersion + 1;
  expect(OpenAfter(region, 12, &version, 4), absl::StatusCode::kFailedPrecondition,
         absl::StrCat("it is of version ", version, "; this program is of version ", RegionHeader::kVersion));
  const uint32_t right_version = RegionHeader::kVersion;
  CHECK(OpenAfter(region, 12, &right_version, 4).ok());
  RegionSizes sizes = {};
  const int32_t layers = 1 << 30;
  const off_t sizes_at = InFile(&RegionHeader::sizes);
  const auto layers_at = sizes_at + (reinterpret_cast<char*>(&sizes.num_layers) - reinterpret_cast<char*>(&sizes));
  expect(OpenAfter(region, layers_at, &layers, 4), absl::StatusCode::kDataLoss, "num_layers is 1073741824");
  const int32_t more_layers = 3;
  expect(OpenAfter(region, layers_at, &more_layers, 4), absl::StatusCode::kDataLoss, "do not fit its sizes");
  const int32_t right_layers = 2;
  const uint64_t newest = 200;
  REQUIRE(OpenAfter(region, layers_at, &right_layers, 4).ok());
  expect(OpenAfter(region, InFile(&RegionHeader::newest), &newest, 8), absl::StatusCode::kDataLoss,
         "newest bank is 200 of 3");
  REQUIRE(::truncate(region.path().c_str(), 5000) == 0);
  expect(AgentRegion::Open(region.path()).status(), absl::StatusCode::kDataLoss, "the file has 5000 bytes");
}

TEST_CASE("tensors outside the weights are refused", "[agent_region]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();
  const auto view = RegionView::Open(region.path().c_str(), SharedMemory::Access::kReadWrite);
  REQUIRE(view.ok());
  for (const uint64_t offset : {uint64_t{1} << 16, UINT64_MAX - 100, (uint64_t{1} << 16) - 300}) {
    view.value.tensors(1)[0].offset = offset;
    const absl::Status status = AgentRegion::Open(region.path()).status();
    CHECK(status.code() == absl::StatusCode::kDataLoss);
    CHECK_THAT(std::string(status.message()), Catch::Contains("tensor 0 of layer 1 lies outside its memory"));
  }
}

TEST_CASE("tensors whose slots overlap are refused", "[agent_region]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();
  const auto view = RegionView::Open(region.path().c_str(), SharedMemory::Access::kReadWrite);
  REQUIRE(view.ok());
  for (const uint64_t stride : {uint64_t{0}, TestRegion::kExpertBytes - 1}) {
    view.value.tensors(1)[0].stride_bytes = stride;
    CHECK(AgentRegion::Open(region.path()).status().code() == absl::StatusCode::kDataLoss);
  }
}

TEST_CASE("tensors are looked at when the engine is ready, and not again", "[agent_region]") {
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  const auto early = RegionView::Open(region.path().c_str(), SharedMemory::Access::kReadWrite);
  REQUIRE(early.ok());
  early.value.num_tensors(1) = 1;  // as if it were just being added
  early.value.tensors(1)[0].offset = UINT64_MAX;
  CHECK(AgentRegion::Open(region.path()).status().code() == absl::StatusCode::kUnavailable);
  CHECK(FindRegion(directory.path(), "test", RankId(1)).ok());
  early.value.num_tensors(1) = 0;
  region.MakeReady();

  const auto agent = AgentRegion::Open(region.path());
  REQUIRE(agent.ok());
  const Member member = (*agent)->member();
  const auto peer = PeerRegion::Open(region.path(), member);
  REQUIRE(peer.ok());
  const auto before = (*agent)->SlotBytes(LayerId(1), SlotIdx(4));
  const uint64_t fingerprint = (*agent)->FingerprintSlot(LayerId(1), SlotIdx(4));
  for (uint64_t t = 0; t < 2; ++t) {
    early.value.tensors(1)[t].offset = UINT64_MAX / 2;
    early.value.tensors(1)[t].bytes_per_expert = uint64_t{1} << 40;
  }
  early.value.num_tensors(1) = 1000;
  const auto after = (*agent)->SlotBytes(LayerId(1), SlotIdx(4));
  REQUIRE(after.size() == before.size());
  for (size_t t = 0; t < after.size(); ++t) {
    CHECK(after[t].data() == before[t].data());
    CHECK(after[t].size() == before[t].size());
  }
  CHECK((*agent)->FingerprintSlot(LayerId(1), SlotIdx(4)) == fingerprint);
  CHECK((*peer)->SlotBytes(LayerId(1), 1).size() == before.size());
}

TEST_CASE("any flipped byte of the header is refused or harmless", "[agent_region]") {
  const uint64_t seed = GENERATE(range(1, 150));
  CAPTURE(seed);
  Rng rng(seed);
  const TestDirectory directory;
  TestRegion region(SmallOptions(directory));
  region.MakeReady();
  const auto at = static_cast<off_t>(rng.Below(64 + sizeof(RegionHeader)));
  unsigned char byte = 0;
  const int fd = ::open(region.path().c_str(), O_RDWR);
  REQUIRE(::pread(fd, &byte, 1, at) == 1);
  ::close(fd);
  byte = static_cast<unsigned char>(byte ^ 1 << rng.Below(8));
  const absl::Status status = OpenAfter(region, at, &byte, 1);
  if (status.ok())
    CHECK((*AgentRegion::Open(region.path()))->ReadContent().status().code() != absl::StatusCode::kInternal);
}

}  // namespace evenkeel::engine
