// SPDX-License-Identifier: Apache-2.0
//
// Strand: a process around one of the two cores: events one by one, effects in their order, a clock of its own.
//
// Effects are begun and ended: each may take time, and the process may be killed between any two, or within one,
// which then has not taken place. A stalled process hears nothing and does nothing. Its clock may run ahead of the
// simulation's, and jumps; it never goes back.
//
// Threads:   none.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/time.h"

#include "algos/base/rng.h"
#include "tests/sim/event_queue.h"
#include "tests/sim/trace.h"

namespace evenkeel::sim {

template <typename Machine, typename Event, typename Effect, typename TickEvent>
class Strand {
 public:
  struct World {
    EventQueue* queue = nullptr;
    Trace* trace = nullptr;
    Rng* rng = nullptr;
    double effect_takes_time = 0;
    std::function<void(Effect&)> carry_out;
    std::function<void(const Event&)> hears = nullptr;  // right before the machine does
    std::function<void()> died;                         // within an effect, as ordered by DieInEffect
  };

  explicit Strand(World world) : world_(std::move(world)) {}

  Machine* machine() { return machine_.get(); }
  const Machine* machine() const { return machine_.get(); }
  bool running() const { return machine_ != nullptr; }
  absl::Time local_now() const { return world_.queue->now() + ahead_; }
  absl::Time ToSimulation(absl::Time local) const { return local - ahead_; }

  void Start(std::unique_ptr<Machine> machine) {
    Stop();
    machine_ = std::move(machine);
    ScheduleTick();
  }

  void Stop() {
    ++life_;
    machine_ = nullptr;
    events_.clear();
    effects_.clear();
    busy_ = false;
    scheduled_ = absl::InfiniteFuture();
    effects_until_death_ = 0;
    stalled_until_ = absl::InfinitePast();
  }

  void Post(Event event) {
    if (!running()) return;
    events_.push_back(std::move(event));
    Run();
  }

  void Stall(absl::Time until) { stalled_until_ = until; }
  void EndStall() { stalled_until_ = absl::InfinitePast(); }
  bool stalled() const { return stalled_until_ > world_.queue->now(); }

  void DieInEffect(int num_effects) { effects_until_death_ = num_effects; }

  void JumpClock(absl::Duration ahead) {
    ahead_ += ahead;
    scheduled_ = absl::InfiniteFuture();
    if (running()) ScheduleTick();
  }

  // Nothing waits to be heard or done.
  bool quiet() const { return events_.empty() && effects_.empty() && !busy_; }

 private:
  static constexpr int kTicksAtOnceMax = 1000;

  void Resume(absl::Time when) {
    busy_ = true;
    const uint64_t life = life_;
    world_.queue->At(when, [this, life] {
      if (life != life_) return;
      busy_ = false;
      Run();
    });
  }

  void Run() {
    if (busy_) return;
    busy_ = true;
    const uint64_t life = life_;
    while (!effects_.empty() || !events_.empty()) {
      if (stalled()) return Resume(stalled_until_);
      if (effects_.empty()) {
        const Event event = std::move(events_.front());
        events_.pop_front();
        if (world_.hears) world_.hears(event);
        for (Effect& effect : machine_->Step(local_now(), event)) effects_.push_back(std::move(effect));
        continue;
      }
      Effect effect = std::move(effects_.front());
      effects_.pop_front();
      const bool dies = effects_until_death_ > 0 && --effects_until_death_ == 0;
      const bool takes_place = !dies || world_.rng->Chance(0.5);
      if (takes_place) world_.carry_out(effect);
      if (life != life_) return;
      if (dies) return world_.died();
      if (world_.effect_takes_time > 0 && world_.rng->Chance(world_.effect_takes_time)) {
        const double part = world_.rng->Uniform();
        return Resume(world_.queue->now() + absl::Milliseconds(30) * part * part * part);
      }
    }
    busy_ = false;
    ScheduleTick();
  }

  void ScheduleTick() {
    const absl::Time wanted = machine_->NextWakeup();
    if (wanted == absl::InfiniteFuture()) return;
    const absl::Time when = std::max(ToSimulation(wanted), world_.queue->now());
    if (when >= scheduled_) return;
    scheduled_ = when;
    const uint64_t life = life_;
    world_.queue->At(when, [this, life] {
      if (life == life_) Wake();
    });
  }

  void Wake() {
    if (scheduled_ > world_.queue->now()) return;  // an earlier one was made obsolete by a jump
    scheduled_ = absl::InfiniteFuture();
    if (machine_->NextWakeup() > local_now()) return ScheduleTick();
    if (last_tick_ == world_.queue->now() && ++ticks_at_once_ > kTicksAtOnceMax) {
      return world_.trace->Violation("a core wants to be woken again and again at one time");
    }
    if (last_tick_ != world_.queue->now()) ticks_at_once_ = 0;
    last_tick_ = world_.queue->now();
    Post(TickEvent{});
  }

  const World world_;
  uint64_t life_ = 0;
  std::unique_ptr<Machine> machine_;
  std::deque<Event> events_;
  std::deque<Effect> effects_;
  bool busy_ = false;
  absl::Time stalled_until_ = absl::InfinitePast();
  absl::Duration ahead_;
  int effects_until_death_ = 0;
  absl::Time scheduled_ = absl::InfiniteFuture();
  absl::Time last_tick_ = absl::InfinitePast();
  int ticks_at_once_ = 0;
};

}  // namespace evenkeel::sim
