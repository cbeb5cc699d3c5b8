// SPDX-License-Identifier: Apache-2.0
//
// Two agents with their engines and one fake controller each: stores are filled and offered, and an expert whose only
// rank has ended comes back out of them.
#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/synchronization/notification.h"

#include "agent/core/map_update.h"
#include "agent/daemon.h"
#include "agent/stores/pool_reader.h"
#include "agent/stores/pool_view.h"
#include "agent/stores/store_keeper.h"
#include "agent/transport_set.h"
#include "algos/layer_map.h"
#include "runtime/clock.h"
#include "runtime/read_pass.h"
#include "tests/agent/fake_controller.h"
#include "tests/agent/stores/store_rig.h"

namespace evenkeel::agent {
namespace {

using engine::AgentRegion;
using engine::TestDirectory;
using engine::TestRegion;
using runtime::MonotonicNow;

constexpr absl::Duration kLong = absl::Seconds(30);
constexpr LayerId kLayer{0};
constexpr ExpertId kLost{1};  // rank 0 alone holds it
constexpr SlotIdx kSlot{5};   // of rank 1

// Two ranks of two layers of 4 experts with 3 slots each: 0 1 2 | 2 3 0.
evenkeel_options OptionsOf(const TestDirectory& directory, int rank) {
  evenkeel_options options = engine::SmallOptions(directory);
  options.rank = rank;
  options.num_ranks = 2;
  options.num_experts = 4;
  return options;
}

// Of what other threads and processes do to files: nobody tells.
bool BecomesTrue(const std::function<bool()>& condition) {
  const absl::Time until = MonotonicNow() + kLong;
  absl::Notification never;
  while (!condition()) {
    if (MonotonicNow() > until) return false;
    never.WaitForNotificationWithTimeout(absl::Milliseconds(5));
  }
  return true;
}

bool Has(const std::vector<Endpoint>& endpoints, const std::string& transport) {
  return std::any_of(endpoints.begin(), endpoints.end(),
                     [&](const Endpoint& one) { return one.transport == transport; });
}

struct RankRig {
  RankRig(const TestDirectory& directory, int rank, const std::string& host, const AgentSettings& settings)
      : engine(std::make_unique<TestRegion>(OptionsOf(directory, rank))) {
    engine->MakeReady();
    auto region = AgentRegion::Open(engine->path());
    REQUIRE(region.ok());
    auto transports = MakeTransports(**region, {.forced = "", .fault = "", .host = host});
    REQUIRE(transports.ok());
    Daemon::Options options;
    options.controller = controller.address();
    StoreKeeper::Options stores;
    stores.host = host;
    stores.offers_ucx = true;
    auto started = Daemon::Start(options, *std::move(region), *std::move(transports), std::move(stores));
    INFO(started.status().ToString());
    REQUIRE(started.ok());
    agent = *std::move(started);
    const std::optional<Attach> attached = controller.Await<Attach>();
    REQUIRE(attached.has_value());
    attach = *attached;
    CHECK_FALSE(Has(attach.endpoints, "pool"));
    REQUIRE(controller.Say(evenkeel::Welcome{.term = 3, .settings = settings}));
  }
  ~RankRig() {
    if (agent == nullptr) return;
    agent->Stop();
    if (const auto pool = agent->TakePool()) pool->RemoveIfLast();
  }

  // The endpoint of that store, once it is offered.
  Endpoint AwaitStore(const std::string& transport) {
    controller.Rewind();
    const auto changed = controller.Await<EndpointsChanged>(
        [&](const EndpointsChanged& m) { return Has(m.endpoints, transport); }, kLong);
    REQUIRE(changed.has_value());
    return *std::find_if(changed->endpoints.begin(), changed->endpoints.end(),
                         [&](const Endpoint& one) { return one.transport == transport; });
  }
  // Takes kSlot out of the maps, so that it may be written.
  void Retire() {
    const std::shared_ptr<const Maps> held = DefaultMaps(attach.group);
    algos::Placement placement = algos::PlacementOf(held->layers[0], attach.group.shape.num_slots());
    placement.expert_of_slot[kSlot.idx()] = kNoExpert;
    MapsUpdate update;
    update.epoch = update.base_epoch = {3, 1};
    std::vector<algos::LayerMap> layers = held->layers;
    layers[0] = algos::EvenMap(placement, attach.group.shape.num_experts);
    for (size_t l = 0; l < layers.size(); ++l) update.layers.emplace_back(LayerId(static_cast<int>(l)), layers[l]);
    update.maps_digest = DigestOf(layers);
    REQUIRE(controller.Say(update));
    controller.Rewind();
    REQUIRE(controller.Await<Quiesced>([](const Quiesced& m) { return m.epoch == Epoch{3, 1}; }));
  }
  void Order(uint64_t move_id, uint64_t fingerprint, const std::vector<Endpoint>& stores) {
    MoveOrder order;
    order.move_id = move_id;
    order.layer = kLayer;
    order.expert = kLost;
    order.slot = kSlot;
    order.generation = attach.slots[2].generation + move_id;
    order.fingerprint = fingerprint;
    order.retired_since = {3, 1};
    for (const Endpoint& store : stores) {
      const std::string pass = runtime::MakePass(store.secret, order.retired_since.packed(),
                                                 {attach.member.rank.value(), attach.member.incarnation});
      order.sources.push_back({Member(), SlotIdx(), 0, store, pass});
    }
    order.deadline = kLong;
    controller.Rewind();
    REQUIRE(controller.Say(order));
  }
  std::optional<MoveFinished> AwaitFinished(uint64_t move_id) {
    return controller.Await<MoveFinished>([&](const MoveFinished& m) { return m.move_id == move_id; }, kLong);
  }
  std::optional<MoveFailed> AwaitFailed(uint64_t move_id) {
    return controller.Await<MoveFailed>([&](const MoveFailed& m) { return m.move_id == move_id; }, kLong);
  }

  std::unique_ptr<TestRegion> engine;
  FakeController controller;
  std::unique_ptr<Daemon> agent;
  Attach attach;
};

struct TwoRanks {
  explicit TwoRanks(const std::string& second_host) : root(directory.path() + "/snapshots") {
    std::filesystem::create_directory(root);
    settings.pool_bytes = kPlentyOfBytes;
    settings.snapshot_directory = root;
    settings.store_bytes_per_second = 0;
    first = std::make_unique<RankRig>(directory, 0, "one", settings);
    second = std::make_unique<RankRig>(directory, 1, second_host, settings);
    const SlotRecord record = first->attach.slots[1];
    REQUIRE(record.expert == kLost);
    fingerprint = record.fingerprint;
  }
  // Waits until the pool at the endpoint holds the expert.
  std::unique_ptr<PoolView> AwaitPooled(const Endpoint& pool) {
    const auto address = ParsePoolAddress(pool.address);
    REQUIRE(address.ok());
    auto region = engine::PeerRegion::Open(first->engine->path(), first->attach.member);
    REQUIRE(region.ok());
    std::vector<std::vector<uint64_t>> sizes(2, {TestRegion::kExpertBytes, TestRegion::kScaleBytes});
    auto view =
        PoolView::Open(address->path, IdentityOf(first->attach.group, sizes), engine::SharedMemory::Access::kReadWrite);
    INFO(view.status().ToString());
    REQUIRE(view.ok());
    CHECK(BecomesTrue([&] { return (*view)->Find(kLayer, kLost, fingerprint).ok(); }));
    return *std::move(view);
  }
  bool AwaitFile() {
    const std::string file = root + "/test.v7/" + Render(SnapshotName{kLayer, {ExpertId(0), 2}});
    return BecomesTrue([&] { return std::filesystem::exists(file); });
  }

  TestDirectory directory;
  std::string root;
  AgentSettings settings;
  std::unique_ptr<RankRig> first, second;
  uint64_t fingerprint = 0;
};

TEST_CASE("an expert whose last rank has ended comes back from the pool of its host, and from the snapshot",
          "[restore]") {
  TwoRanks ranks("one");
  const Endpoint snapshot = ranks.second->AwaitStore("snapshot");
  const Endpoint pool = ranks.second->AwaitStore("pool");
  CHECK(snapshot == Endpoint{"snapshot", "one", ranks.root});
  const auto pooled = ranks.AwaitPooled(pool);
  REQUIRE(ranks.AwaitFile());
  ranks.first->engine.reset();
  ranks.first.reset();
  ranks.second->Retire();

  ranks.second->Order(1, ranks.fingerprint, {pool, snapshot});
  const auto finished = ranks.second->AwaitFinished(1);
  REQUIRE(finished.has_value());
  CHECK(finished->num_mismatches == 0);
  CHECK(finished->fingerprint == ranks.fingerprint);
  // Damaged in the pool: found, and read from the snapshot.
  const auto found = pooled->Find(kLayer, kLost, ranks.fingerprint);
  REQUIRE(found.ok());
  pooled->TensorsIn(found->frame, kLayer)[0][3] ^= std::byte{4};
  ranks.second->Order(2, ranks.fingerprint, {pool, snapshot});
  const auto again = ranks.second->AwaitFinished(2);
  REQUIRE(again.has_value());
  const bool scrubbed = !pooled->Find(kLayer, kLost, ranks.fingerprint).ok();  // it may have come first
  CHECK((again->num_mismatches == 1 || scrubbed));
  // The pool alone does not do.
  ranks.second->Order(3, ranks.fingerprint, {pool});
  const auto failed = ranks.second->AwaitFailed(3);
  REQUIRE(failed.has_value());
  CHECK(failed->num_mismatches + (absl::IsNotFound(failed->status) ? 1 : 0) == 1);
  CHECK_FALSE(failed->source.valid());
}

TEST_CASE("an expert comes from the pool of another host", "[restore]") {
  TwoRanks ranks("two");
  const Endpoint own = ranks.second->AwaitStore("pool"), other = ranks.first->AwaitStore("pool");
  CHECK(own.host == "two");
  CHECK(other.host == "one");
  ranks.AwaitPooled(other);
  ranks.second->Retire();
  ranks.second->Order(1, ranks.fingerprint, {own, other});
  const auto finished = ranks.second->AwaitFinished(1);
  if (!finished.has_value()) {
    ranks.second->controller.Rewind();
    const auto failed = ranks.second->AwaitFailed(1);
    INFO((failed.has_value() ? failed->status.ToString() : "no answer"));
    FAIL();
  }
  CHECK(finished->bytes == TestRegion::kExpertBytes + TestRegion::kScaleBytes);
}

TEST_CASE("without stores in the settings nothing is kept or offered, and what was is given up", "[restore]") {
  TwoRanks ranks("one");
  ranks.second->AwaitStore("pool");
  const auto num_pools = [&] {
    int num = 0;
    for (const std::string& name : ranks.directory.Files()) num += name.rfind("evenkeel-pool.", 0) == 0 ? 1 : 0;
    return num;
  };
  CHECK(num_pools() == 1);
  for (RankRig* rank : {ranks.first.get(), ranks.second.get()}) {
    rank->controller.Rewind();
    REQUIRE(rank->controller.Say(evenkeel::Welcome{.term = 3, .settings = {}}));
    CHECK(rank->controller.Await<EndpointsChanged>(
        [](const EndpointsChanged& m) { return !Has(m.endpoints, "pool") && !Has(m.endpoints, "snapshot"); }, kLong));
  }
  CHECK(BecomesTrue([&] { return num_pools() == 0; }));
}

}  // namespace
}  // namespace evenkeel::agent
