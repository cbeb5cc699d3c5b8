// SPDX-License-Identifier: Apache-2.0
//
// Random events in random order, with duplicates and late ones: what must never happen does not.
#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "agent/core/map_update.h"
#include "algos/base/rng.h"
#include "tests/agent/core_script.h"

namespace evenkeel::agent::script {
namespace {

// A world that answers effects sometimes, late and twice, and a controller that asks for right and wrong things.
class World {
 public:
  explicit World(uint64_t seed) : rng_(seed), agent_(Region()) {
    for (const SlotRecord& record : Region().slots) slots_.push_back(record);
    in_use_.push_back(agent_.worker.newest_maps());
  }

  void Run(int num_steps) {
    for (int i = 0; i < num_steps; ++i) {
      agent_.now += absl::Milliseconds(rng_.Between(0, 40));
      const Event event = NextEvent();
      if (const auto* ended = std::get_if<TransferEnded>(&event)) {
        copying_.erase(slot_of_[{ended->move_id, ended->attempt}]);  // until then bytes may land
      }
      Carry(agent_.worker.Step(agent_.now, event));
      if (std::holds_alternative<MessageReceived>(event) && rng_.Chance(0.1)) later_.push_back(event);
      CHECK(agent_.worker.NextWakeup() > agent_.now - absl::Seconds(1));
    }
  }

  int num_transfers() const { return num_transfers_; }
  int num_finished() const { return num_finished_; }
  int num_refused() const { return num_refused_; }
  int num_verified_maps() const { return num_maps_; }

 private:
  Event NextEvent() {
    if (!later_.empty() && rng_.Chance(0.4)) {
      const size_t i = rng_.Below(later_.size());
      Event event = later_[i];
      // Events of the shell come once and in order; messages may come twice.
      if (!std::holds_alternative<MessageReceived>(event) || rng_.Chance(0.7)) {
        later_.erase(later_.begin() + static_cast<int64_t>(i));
      }
      return event;
    }
    switch (rng_.Below(9)) {
      case 0:
        if (!rng_.Chance(0.1)) return Tick{};
        return StreamOpened{++agent_.stream};
      case 1:
        return MessageReceived{Welcome{.term = static_cast<uint32_t>(rng_.Between(1, 3)), .settings = Settings()},
                               agent_.stream};
      case 2:
      case 3:
        return MessageReceived{RandomMaps(), agent_.stream};
      case 4:
      case 5:
        return MessageReceived{RandomOrder(), agent_.stream};
      case 6:
        if (orders_.empty() || !rng_.Chance(0.3)) return Tick{};
        return MessageReceived{CancelOf(orders_[rng_.Below(orders_.size())]), agent_.stream};
      case 7:
        return Quiesce();
      default:
        return Tick{};
    }
  }

  AgentSettings Settings() {
    AgentSettings settings;
    settings.concurrent_moves_max = static_cast<int>(rng_.Between(1, 3));
    settings.bytes_per_second_max = rng_.Chance(0.5) ? 1000 : 0;
    return settings;
  }

  ControllerMessage RandomMaps() {
    std::vector<int> experts = {0, 1, 2, -1, -1, -1};
    for (size_t local = 0; local < 3; ++local) {
      const SlotRecord& record = agent_.worker.moves().slots().slots()[local].record;
      if (rng_.Chance(0.5)) experts[3 + local] = record.expert.value();
      if (rng_.Chance(0.1)) experts[3 + local] = static_cast<int>(rng_.Below(4));
    }
    experts[0] = 3;
    const Epoch held = agent_.worker.newest_maps()->epoch;
    const uint32_t term = agent_.worker.term_obeyed();
    const Epoch next{term, (held.term == term ? held.number : 0) + 1};
    return Update(next, agent_.worker.newest_maps().get(), {{0, MapOf(experts)}});
  }

  ControllerMessage RandomOrder() {
    const int local = static_cast<int>(rng_.Below(3));
    const SlotRecord& record = agent_.worker.moves().slots().slots()[static_cast<size_t>(local)].record;
    const uint64_t generation = record.generation + (rng_.Chance(0.9) ? 1 : 2);
    MoveOrder order = Order(++num_orders_, 3 + local, generation, {0, 0}, 2);
    order.expert = ExpertId(static_cast<int>(rng_.Below(4)));
    order.fingerprint = FingerprintOf(LayerId(0), order.expert);
    order.deadline = absl::Milliseconds(rng_.Between(50, 2000));
    orders_.push_back(order);
    return order;
  }

  // The engine moves on to some maps that are in the region.
  Event Quiesce() {
    if (in_use_.size() > 1 && rng_.Chance(0.7)) in_use_.erase(in_use_.begin());
    return EngineObserved{.quiesced_epoch = in_use_.front()->epoch, .quiesced_view = 0, .status = {}};
  }

  bool InUse(SlotIdx slot) const {
    for (const auto& maps : in_use_) {
      for (SlotIdx named : maps->layers[0].slots) {
        if (named == slot) return true;
      }
    }
    return false;
  }

  void Carry(const Effects& effects) {
    for (const Effect& effect : effects) {
      std::visit([&](const auto& done) { Do(done); }, effect);
    }
    // What maps in use name is verified, and holds that expert.
    for (const auto& maps : in_use_) {
      for (int e = 0; e < 4; ++e) {
        for (SlotIdx slot : maps->layers[0].slots_of(ExpertId(e))) {
          if (slot.value() < 3) continue;
          const SlotRecord& record = slots_[static_cast<size_t>(slot.value() - 3)];
          CHECK(record.state == SlotState::kVerified);
          CHECK(record.expert == ExpertId(e));
        }
      }
    }
  }

  void Do(const StoreSlot& effect) {
    SlotRecord& record = slots_[static_cast<size_t>(effect.layer.value() * 3 + effect.slot.value() - 3)];
    CHECK(effect.record.generation >= record.generation);
    if (effect.record.state == SlotState::kWriting) CHECK(effect.record.generation == record.generation + 1);
    if (effect.record.state != SlotState::kVerified) CHECK_FALSE(InUse(effect.slot));
    record = effect.record;
  }
  void Do(const StartTransfer& effect) {
    ++num_transfers_;
    CHECK_FALSE(InUse(effect.slot));
    CHECK(slots_[static_cast<size_t>(effect.slot.value() - 3)].state == SlotState::kWriting);
    // No copy into the slot is still running.
    CHECK(copying_.insert(effect.slot).second);
    TransferEnded ended{.move_id = effect.move_id, .attempt = effect.attempt, .status = absl::OkStatus()};
    ended.fingerprint = FingerprintOf(effect.layer, effect.expert) + (rng_.Chance(0.3) ? 50 : 0);
    if (rng_.Chance(0.2)) ended.status = absl::UnavailableError("gone");
    slot_of_[{effect.move_id, effect.attempt}] = effect.slot;
    later_.push_back(ended);
  }
  void Do(const CancelTransfer& effect) { CHECK(slot_of_.count({effect.move_id, effect.attempt}) == 1); }
  void Do(const NotifyPostMove& effect) {
    later_.push_back(PostMoveAcknowledged{effect.layer, effect.slot, effect.generation});
  }
  void Do(const FingerprintSlot& effect) {
    const SlotRecord& record = slots_[static_cast<size_t>(effect.layer.value() * 3 + effect.slot.value() - 3)];
    later_.push_back(SlotFingerprinted{effect.layer, effect.slot, effect.generation, record.fingerprint});
  }
  void Do(const ReadCounters&) {
    later_.push_back(CountersRead{.first_step = 0, .last_step = 0, .tokens_of_slot = std::vector<uint64_t>(6, 0)});
  }
  void Do(const WriteMaps& effect) {
    const bool written = rng_.Chance(0.7);
    CHECK(effect.maps->epoch > in_use_.back()->epoch);
    if (written) in_use_.push_back(effect.maps);
    if (written) ++num_maps_;
    later_.push_back(MapsWritten{.epoch = effect.maps->epoch, .written = written});
  }
  void Do(const StoreTerm& effect) {
    CHECK(effect.term > term_);
    term_ = effect.term;
  }
  void Do(const StoreView&) {}
  void Do(const GrantSuspension&) { FAIL("nobody asked for a suspension"); }
  void Do(const CloseStream&) { later_.push_back(StreamOpened{++agent_.stream}); }
  void Do(const SendToController& effect) {
    if (std::holds_alternative<MoveFinished>(effect.message)) ++num_finished_;
    if (std::holds_alternative<MoveFailed>(effect.message) || std::holds_alternative<MapsRefused>(effect.message)) {
      ++num_refused_;
    }
  }

 private:
  Rng rng_;
  Agent agent_;
  std::vector<SlotRecord> slots_;                    // as in the region
  std::vector<std::shared_ptr<const Maps>> in_use_;  // in the region and not older than what the engine uses
  std::vector<Event> later_;
  std::vector<MoveOrder> orders_;
  std::set<SlotIdx> copying_;
  std::map<std::pair<uint64_t, int>, SlotIdx> slot_of_;
  uint64_t num_orders_ = 0;
  uint32_t term_ = 0;
  int num_transfers_ = 0;
  int num_finished_ = 0;
  int num_refused_ = 0;
  int num_maps_ = 0;
};

TEST_CASE("whatever comes in whatever order, no slot in use is written and generations only grow", "[worker]") {
  const int seed = GENERATE(range(1, 41));
  CAPTURE(seed);
  World world(static_cast<uint64_t>(seed));
  world.Run(6000);
  CHECK(world.num_transfers() > 5);
  CHECK(world.num_finished() > 0);
  CHECK(world.num_refused() > 20);
  CHECK(world.num_verified_maps() > 20);
}

}  // namespace
}  // namespace evenkeel::agent::script
