// SPDX-License-Identifier: Apache-2.0
//
// Experts read out of stores: the pool of this host, that of another one, the snapshot.
#include "agent/stores/store_transport.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

#include "agent/stores/pool_reader.h"
#include "agent/stores/remote_pool.h"
#include "agent/stores/snapshot_keeper.h"
#include "agent/stores/snapshot_reader.h"
#include "agent/weights_table.h"
#include "runtime/clock.h"
#include "runtime/read_pass.h"
#include "tests/agent/stores/store_rig.h"

namespace evenkeel::agent {
namespace {

using runtime::MonotonicNow;

constexpr absl::Duration kPatience = absl::Seconds(20);
constexpr LayerId kLayer{1};

// Stores of all experts, and one transport for each way to read them.
struct Stores : StoreRig {
  Stores() : root(directory.path() + "/snapshots"), throttle(std::make_shared<Throttle>()) {
    std::filesystem::create_directory(root);
    for (int rank = 0; rank < kRigRanks; ++rank) {
      pools.push_back(Enter(rank));
      Fill(rank, *pools.back());
      SnapshotKeeper keeper(region(rank), root);
      SnapshotKeeper::Work work;
      REQUIRE(keeper.Look(owners, AnyPace, work).ok());
      folder = keeper.folder().path();
    }
    pool = std::make_unique<StoreTransport>(StoreTransport::Options{
        .name = "pool", .host = "host", .cost = 30, .throttle = throttle, .open = [this](const TransferRequest& r) {
          return OpenPoolReader(identity(), r);
        }});
    snapshot = std::make_unique<StoreTransport>(StoreTransport::Options{
        .name = "snapshot", .host = "host", .cost = 50, .throttle = throttle, .open = SnapshotOpener(identity())});
  }
  ~Stores() {
    if (remote != nullptr) remote->Close();
    if (reader_ucx != nullptr) reader_ucx->Close();
    if (offer != nullptr) offer->Close();
  }
  // The pool as agents of another host see it.
  void OfferToOthers() {
    auto offered = OfferPool(pools[0]->view(), region(0).member(), "host");
    INFO(offered.status().ToString());
    REQUIRE(offered.ok());
    offer = *std::move(offered);
    auto ucx = UcxTransport::Create({.member = region(3).member(),
                                     .host = "elsewhere",
                                     .tls = "tcp",
                                     .table = TableOf(region(3)),
                                     .memory = SegmentOf(region(3)),
                                     .throttle = throttle});
    REQUIRE(ucx.ok());
    reader_ucx = *std::move(ucx);
    remote = std::make_unique<RemotePool>(
        RemotePool::Options{.host = "elsewhere", .identity = identity(), .ucx = reader_ucx.get()});
  }

  Endpoint PoolEndpoint() const {
    return {"pool", "host",
            RenderPoolAddress({pools[0]->view().path(), offer == nullptr ? "" : offer->endpoint().address})};
  }
  Endpoint SnapshotEndpoint() const { return {"snapshot", "host", root}; }

  std::string PassOf(const std::string& secret) {
    const Member reader = region(3).member();
    return runtime::MakePass(secret, 7, {reader.rank.value(), reader.incarnation});
  }
  TransferRequest Request(const Endpoint& endpoint, int expert) {
    TransferRequest request;
    request.transfer_id = ++num_requests;
    request.layer = kLayer;
    request.expert = ExpertId(expert);
    request.fingerprint = FingerprintOf(kLayer, request.expert);
    request.source.endpoint = endpoint;
    if (offer != nullptr) request.source.pass = PassOf(offer->endpoint().secret);
    room = {std::vector<std::byte>(engine::TestRegion::kExpertBytes),
            std::vector<std::byte>(engine::TestRegion::kScaleBytes)};
    for (auto& tensor : room) request.destination.emplace_back(tensor);
    request.deadline = MonotonicNow() + kPatience;
    return request;
  }
  absl::Status Read(Transport& transport, TransferRequest request) {
    absl::Notification ended;
    TransferResult result;
    const absl::Status started = transport.Start(std::move(request), [&](TransferResult end) {
      result = std::move(end);
      ended.Notify();
    });
    if (!started.ok()) return started;
    if (!ended.WaitForNotificationWithTimeout(kPatience)) return absl::InternalError("no completion");
    CHECK((!result.status.ok() || result.bytes == engine::TestRegion::kExpertBytes + engine::TestRegion::kScaleBytes));
    return result.status;
  }
  bool HoldsExpert(int expert) const {
    const auto expected = static_cast<std::byte>(1 + kLayer.value() * 64 + expert);
    return std::all_of(room.begin(), room.end(), [&](const auto& tensor) {
      return std::all_of(tensor.begin(), tensor.end(), [&](std::byte byte) { return byte == expected; });
    });
  }

  std::string root, folder;
  std::shared_ptr<Throttle> throttle;
  std::vector<std::unique_ptr<HostPool>> pools;
  std::unique_ptr<StoreTransport> pool, snapshot;
  std::unique_ptr<UcxTransport> offer, reader_ucx;
  std::unique_ptr<RemotePool> remote;
  std::vector<std::vector<std::byte>> room;
  uint64_t num_requests = 0;
};

TEST_CASE("pool and snapshot give every expert", "[store_transport]") {
  Stores stores;
  for (int expert = 0; expert < kRigExperts; ++expert) {
    CAPTURE(expert);
    CHECK(stores.Read(*stores.pool, stores.Request(stores.PoolEndpoint(), expert)).ok());
    CHECK(stores.HoldsExpert(expert));
    CHECK(stores.Read(*stores.snapshot, stores.Request(stores.SnapshotEndpoint(), expert)).ok());
    CHECK(stores.HoldsExpert(expert));
  }
}

TEST_CASE("the pool of another host gives every expert", "[store_transport]") {
  Stores stores;
  stores.OfferToOthers();
  CHECK(stores.pool->CostFrom(stores.PoolEndpoint()) == 30);
  CHECK(stores.remote->CostFrom(stores.PoolEndpoint()) == RemotePool::kCost);
  CHECK(stores.remote->CostFrom({"pool", "elsewhere", "/x|y"}) < 0);
  CHECK(stores.remote->CostFrom({"pool", "host", "/x|"}) < 0);
  for (int expert = 0; expert < kRigExperts; ++expert) {
    CAPTURE(expert);
    const absl::Status read = stores.Read(*stores.remote, stores.Request(stores.PoolEndpoint(), expert));
    INFO(read.ToString());
    CHECK(read.ok());
    CHECK(stores.HoldsExpert(expert));
  }
}

TEST_CASE("what a pool does not hold, or with another fingerprint, is not found", "[store_transport]") {
  Stores stores;
  stores.OfferToOthers();
  for (Transport* transport : std::vector<Transport*>{stores.pool.get(), stores.remote.get()}) {
    CAPTURE(transport == stores.remote.get());
    TransferRequest request = stores.Request(stores.PoolEndpoint(), 3);
    request.fingerprint ^= 1;
    CHECK(absl::IsNotFound(stores.Read(*transport, request)));
    request = stores.Request(stores.PoolEndpoint(), 3);
    request.expert = ExpertId(kRigExperts);
    CHECK(absl::IsNotFound(stores.Read(*transport, request)));
    stores.pools[0]->view().cell(stores.pools[0]->view().EntryOf(kLayer, ExpertId(3))).state.Store(1);
    CHECK(absl::IsNotFound(stores.Read(*transport, stores.Request(stores.PoolEndpoint(), 3))));
    stores.pools[0]->view().cell(stores.pools[0]->view().EntryOf(kLayer, ExpertId(3))).state.Store(2);
    stores.pools[0]->view().cell(stores.pools[0]->view().EntryOf(kLayer, ExpertId(4))).frame.Store(1 << 20);
    CHECK(absl::IsNotFound(stores.Read(*transport, stores.Request(stores.PoolEndpoint(), 4))));
  }
}

TEST_CASE("a pool of another host is not read without its pass", "[store_transport]") {
  Stores stores;
  stores.OfferToOthers();
  TransferRequest request = stores.Request(stores.PoolEndpoint(), 3);
  const std::string pass = std::exchange(request.source.pass, "");
  CHECK(absl::IsPermissionDenied(stores.Read(*stores.remote, request)));
  request.source.pass = stores.PassOf("another secret");
  CHECK(absl::IsPermissionDenied(stores.Read(*stores.remote, request)));
  request.source.pass = pass;
  CHECK(stores.Read(*stores.remote, request).ok());
}

TEST_CASE("pools that cannot be read from here are refused by name", "[store_transport]") {
  Stores stores;
  stores.OfferToOthers();
  const auto read = [&](Transport& transport, Endpoint endpoint) {
    return stores.Read(transport, stores.Request(endpoint, 3));
  };
  CHECK(absl::IsFailedPrecondition(read(*stores.pool, {"pool", "elsewhere", "/x|y"})));
  CHECK(absl::IsFailedPrecondition(read(*stores.pool, {"pool", "host", "no bar"})));
  CHECK(absl::IsNotFound(read(*stores.pool, {"pool", "host", "/nowhere/evenkeel-pool|"})));
  const std::string path = stores.pools[0]->view().path();
  for (const std::string& address :
       {std::string("|"), path + "|not base64!", path + "|" + stores.offer->endpoint().address.substr(20),
        "/x.0123456789abcdef|" + stores.offer->endpoint().address,
        path + "|" + stores.reader_ucx->endpoint().address}) {
    CAPTURE(address);
    CHECK(absl::IsFailedPrecondition(read(*stores.remote, {"pool", "host", address})));
  }
  TransferRequest odd = stores.Request(stores.PoolEndpoint(), 3);
  odd.destination.pop_back();
  CHECK(absl::IsFailedPrecondition(stores.Read(*stores.pool, odd)));
  CHECK(absl::IsFailedPrecondition(stores.Read(*stores.remote, odd)));
}

TEST_CASE("a pool entry that is written over meanwhile is told of", "[store_transport]") {
  Stores stores;
  TransferRequest request = stores.Request(stores.PoolEndpoint(), 3);
  const auto reader = OpenPoolReader(stores.identity(), request);
  REQUIRE(reader.ok());
  REQUIRE((*reader)->Read(0, 0, request.destination[0]).ok());
  REQUIRE((*reader)->Finish().ok());
  REQUIRE(stores.pools[1]->Begin(kLayer, ExpertId(3), Worth::kOwned, [](uint64_t) { return Worth::kHeld; }).ok());
  CHECK(absl::IsAborted((*reader)->Finish()));
}

TEST_CASE("damaged bytes of a snapshot are found, and another file that has the expert is taken", "[store_transport]") {
  Stores stores;
  std::string path;
  for (const auto& entry : std::filesystem::directory_iterator(stores.folder)) {
    const auto name = ParseSnapshotName(entry.path().filename().string());
    if (name->layer == kLayer && name->range.Contains(ExpertId(3))) path = entry.path().string();
  }
  REQUIRE_FALSE(path.empty());
  const SnapshotFolder folder(stores.root, stores.identity());
  const SnapshotName name = *ParseSnapshotName(std::filesystem::path(path).filename().string());
  const uint64_t at = (*folder.Open(name))->header().PlaceOf(ExpertId(3), 0);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file.put('\x7f');
  }
  CHECK(absl::IsDataLoss(stores.Read(*stores.snapshot, stores.Request(stores.SnapshotEndpoint(), 3))));
  CHECK(absl::IsDataLoss(stores.Read(*stores.snapshot, stores.Request(stores.SnapshotEndpoint(), 3))));
  // Its owner writes the one expert anew.
  for (int rank = 0; rank < kRigRanks; ++rank) {
    SnapshotKeeper keeper(stores.region(rank), stores.root);
    SnapshotKeeper::Work work;
    REQUIRE(keeper.Look(stores.owners, AnyPace, work).ok());
  }
  CHECK(stores.Read(*stores.snapshot, stores.Request(stores.SnapshotEndpoint(), 3)).ok());
  CHECK(stores.HoldsExpert(3));
}

TEST_CASE("files that are cut short, foreign or missing say so", "[store_transport]") {
  Stores stores;
  const auto read = [&] { return stores.Read(*stores.snapshot, stores.Request(stores.SnapshotEndpoint(), 3)); };
  for (const auto& entry : std::filesystem::directory_iterator(stores.folder)) {
    std::filesystem::resize_file(entry.path(), std::filesystem::file_size(entry.path()) - 1);
  }
  CHECK(absl::IsDataLoss(read()));
  for (const auto& entry : std::filesystem::directory_iterator(stores.folder)) std::filesystem::remove(entry.path());
  CHECK(absl::IsNotFound(read()));
  std::filesystem::remove(stores.folder);
  CHECK(absl::IsNotFound(read()));
}

TEST_CASE("reads keep to the rate, end at their deadline, and when they are cancelled", "[store_transport]") {
  Stores stores;
  TransferRequest request = stores.Request(stores.PoolEndpoint(), 3);
  request.bytes_per_second_max = 1;  // the first piece is free
  request.deadline = MonotonicNow() + absl::Milliseconds(50);
  CHECK(absl::IsDeadlineExceeded(stores.Read(*stores.pool, request)));
  request = stores.Request(stores.PoolEndpoint(), 3);
  request.bytes_per_second_max = 1;
  absl::Notification ended;
  TransferResult result;
  REQUIRE(stores.pool
              ->Start(request,
                      [&](TransferResult end) {
                        result = std::move(end);
                        ended.Notify();
                      })
              .ok());
  stores.pool->Cancel(request.transfer_id);
  REQUIRE(ended.WaitForNotificationWithTimeout(kPatience));
  CHECK(absl::IsAborted(result.status));
}

TEST_CASE("closing ends all reads, delivers their completions, and starts no more", "[store_transport]") {
  Stores stores;
  stores.OfferToOthers();
  for (Transport* transport : std::vector<Transport*>{stores.pool.get(), stores.remote.get()}) {
    CAPTURE(transport == stores.remote.get());
    // UCX 1.13 ends the process of a source whose answer to a connection finds the reader gone: let there be one.
    REQUIRE(stores.Read(*transport, stores.Request(stores.PoolEndpoint(), 3)).ok());
    absl::Mutex mutex;
    int num_ended = 0;
    for (int i = 0; i < 3; ++i) {
      TransferRequest request = stores.Request(stores.PoolEndpoint(), 3);
      request.bytes_per_second_max = 1;
      const auto held = std::make_shared<std::vector<std::vector<std::byte>>>(std::move(stores.room));
      REQUIRE(transport
                  ->Start(request,
                          [&mutex, &num_ended, held](const TransferResult&) {
                            absl::MutexLock lock(&mutex);
                            ++num_ended;
                          })
                  .ok());
    }
    transport->Close();
    absl::MutexLock lock(&mutex);
    CHECK(num_ended == 3);
    CHECK(
        absl::IsUnavailable(transport->Start(stores.Request(stores.PoolEndpoint(), 3), [](const TransferResult&) {})));
  }
}

}  // namespace
}  // namespace evenkeel::agent
