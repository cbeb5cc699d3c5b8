// SPDX-License-Identifier: Apache-2.0
//
// AgentRegion: a rank's region as its agent uses it: read what the engine does, write which slot holds what.
//
// The engine's process made the file (engine/evenkeel.h) and goes on without any agent; an agent that takes it
// over finds the whole state in it. Nothing here waits: what the engine is in the middle of is asked again later.
//
// Threads:   owned by the agent's strand. SlotBytes, ReadSlot, FingerprintSlot, EngineAlive and the constant accessors
//            may be called from any thread.
// Owns:      the mapping and the agent's lock on the file; both end with the object.
// Slots:     SlotIdx counts the slots of the layer over all ranks; every one given here must be of this rank.
// Crash:     a kill between any two stores leaves either the old or the new maps, view and slot record.
// Errors:    kNotFound: no such region; kUnavailable: its engine is not ready; kFailedPrecondition: another ABI
//            version or its engine has ended; kAlreadyExists: another agent has it; kDataLoss: not a whole region.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "algos/layer_map.h"
#include "algos/protocol/identity.h"
#include "algos/protocol/messages.h"
#include "kernels/cuda_memory.h"

namespace evenkeel::engine {

class RegionView;     // engine/region/region_view.h
class DeviceMapping;  // engine/region/device_slots.h

// Path of the newest region of (group, rank) in `directory` whose engine lives.
absl::StatusOr<std::string> FindRegion(const std::string& directory, const std::string& group, RankId rank);

struct Quiescence {
  Epoch epoch;
  uint64_t view_number = 0;

  friend bool operator==(const Quiescence&, const Quiescence&) = default;
};

// What an agent needs to take a region over.
struct RegionContent {
  GroupInfo group;
  Member member;
  bool joining = false;     // the engine comes to a group under way: its slots were free
  uint64_t suspension = 0;  // its number, where the engine is suspended
  uint32_t term_obeyed = 0;
  Epoch epoch;  // of the newest maps
  uint64_t maps_view_number = 0;
  uint64_t maps_digest = 0;
  std::vector<algos::LayerMap> maps;  // [num_layers]
  View view;
  Quiescence quiesced;
  std::vector<SlotRecord> slots;         // [num_layers * slots_per_rank]
  std::vector<uint64_t> tokens_of_slot;  // as in CounterReading, like the next two
  std::vector<uint64_t> prefill_of_slot;
  std::vector<uint64_t> decode_of_slot;
};

struct CounterReading {
  uint64_t first_step = 0;  // newest step begun at the reading before this one
  uint64_t last_step = 0;   // newest step begun now
  // Monotonic since the engine's start: [num_layers * slots_per_rank] after dispatch, [num_layers * num_slots] at
  // the router.
  std::vector<uint64_t> tokens_of_slot;   // of all phases
  std::vector<uint64_t> prefill_of_slot;  // of these
  std::vector<uint64_t> decode_of_slot;
  uint64_t num_unrouted_tokens = 0;
};

// Monotonic: steps that ended without being aborted, and how long they were open in all.
struct StepTimes {
  uint64_t num_steps = 0;
  absl::Duration total;
};

enum class MapsWrite {
  kWritten,
  kNoBankFree,  // all are in use by open steps, or a step is just beginning: try again, with newer maps if any
};

// Host memory that holds the experts' tensors.
struct WeightsSegment {
  std::byte* base = nullptr;
  uint64_t bytes = 0;
};

class AgentRegion {
 public:
  // Checks the file's type, version, sizes and offsets and takes the agent's lock.
  static absl::StatusOr<std::unique_ptr<AgentRegion>> Open(const std::string& path);
  ~AgentRegion();

  std::string path() const;
  const GroupInfo& group() const;
  Member member() const;
  // An agent held this region before: slots left in `writing` may still be written for a while (rule 19).
  bool had_agent_before() const;
  // The engine registered a post_move callback.
  bool has_post_move() const;
  WeightsSegment weights() const;  // empty where on_device()
  // The tensors lie in memory of this GPU: SlotBytes names addresses that copies on it can use and the CPU cannot.
  bool on_device() const;
  kernels::CudaUuid device() const;

  absl::StatusOr<RegionContent> ReadContent() const;

  // Makes `maps` [num_layers] the newest. kInvalidArgument where they do not fit the group; kFailedPrecondition
  // where `epoch` is not newer than the region's.
  absl::StatusOr<MapsWrite> TryWriteMaps(Epoch epoch, uint64_t view_number, uint64_t digest,
                                         std::span<const algos::LayerMap> maps);
  // Requires: not below the stored one.
  void StoreTerm(uint32_t term);
  // Members and lost words at once; ranks without a member are lost.
  void StoreView(const View& view);
  void StoreSlot(LayerId layer, SlotIdx slot, const SlotRecord& record);
  SlotRecord ReadSlot(LayerId layer, SlotIdx slot) const;

  // Asks the engine to refresh what it derives from the slot; it does so at its next begin_step or set_idle.
  void RequestPostMove(LayerId layer, SlotIdx slot, uint64_t generation);
  // True at once where the engine registered no callback.
  bool PostMoveAcknowledged(LayerId layer, SlotIdx slot, uint64_t generation) const;

  // The newest epoch and view that no open step and no work for others is older than (rules 11, 13, 16). Never
  // goes back; while a step is just beginning it is the reading before.
  Quiescence ReadQuiesced();
  CounterReading ReadCounters();
  // `oldest_open_step` is zero while the engine holds a busy lease.
  EngineStatus ReadStatus() const;
  StepTimes ReadStepTimes() const;
  absl::Duration BusyLeaseLeft() const;
  bool EngineAlive() const;

  // Number of the engine's suspension, 0 while it has not asked for one (rule 22).
  uint64_t Suspension() const;
  // From now on the slots' records are the engine's, until it resumes. Requires: nobody reads or writes the slots.
  void GrantSuspension(uint64_t suspension);

  // The slot's bytes, one range per tensor of the layer, in manifest order.
  std::vector<std::span<std::byte>> SlotBytes(LayerId layer, SlotIdx slot) const;
  // Requires: !on_device().
  uint64_t FingerprintSlot(LayerId layer, SlotIdx slot) const;
  // Of each slot, in order; in device memory together, in few launches. By one thread at a time.
  absl::StatusOr<std::vector<uint64_t>> FingerprintSlots(std::span<const std::pair<LayerId, SlotIdx>> slots) const;

 private:
  explicit AgentRegion(std::unique_ptr<RegionView> view);
  int LocalSlot(SlotIdx slot) const;

  // Constant after construction.
  absl::Status MapDevice();

  const std::unique_ptr<RegionView> view_;
  const GroupInfo group_;
  bool had_agent_before_ = false;
  // Of a region in device memory; the mapping uses the device.
  std::unique_ptr<kernels::CudaDevice> device_;
  std::unique_ptr<DeviceMapping> mapping_;
  // Changed by ReadQuiesced, ReadCounters.
  Quiescence quiesced_;
  uint64_t last_step_ = 0;
};

// Another rank's region, read only: what the `local` and `ipc` transports copy from.
class PeerRegion {
 public:
  // kFailedPrecondition where the region is not of `member`, or its tensors are not in the memory that is wanted: that
  // of some GPU, mapped for copies on `device`, which outlives the object; without `device` the host's.
  static absl::StatusOr<std::unique_ptr<PeerRegion>> Open(const std::string& path, Member member,
                                                          kernels::CudaDevice* device = nullptr);
  ~PeerRegion();

  const GroupInfo& group() const;
  bool EngineAlive() const;
  bool IsSuspended() const;  // nothing is to be read, and no mapping kept
  SlotRecord ReadSlot(LayerId layer, int local_slot) const;
  std::vector<std::span<const std::byte>> SlotBytes(LayerId layer, int local_slot) const;
  WeightsSegment weights() const;  // not writable

 private:
  explicit PeerRegion(std::unique_ptr<RegionView> view);

  const std::unique_ptr<RegionView> view_;
  const GroupInfo group_;
  std::unique_ptr<DeviceMapping> mapping_;
};

}  // namespace evenkeel::engine
