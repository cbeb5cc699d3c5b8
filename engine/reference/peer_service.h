// SPDX-License-Identifier: Apache-2.0
//
// PeerService: computes in this rank's slots what other ranks ask for.
//
// It computes in the slot that the asker named, without looking at its own map, within evenkeel_serve_begin and
// serve_end. Which epochs it serves depends on how this engine came into the group: one that began with it serves all;
// one that joined later none but those since its first map, as older maps mean its predecessor's slots.
//
// Threads:   Serve, one thread; Admit, any.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"

#include "engine/evenkeel.h"
#include "engine/reference/config.h"
#include "engine/reference/exchange_server.h"
#include "engine/reference/failure.h"
#include "engine/reference/slots.h"
#include "engine/reference/status.h"

namespace evenkeel::engine {

class PeerService {
 public:
  // Epochs in [first, last] are served.
  struct Epochs {
    uint64_t first = 0;
    uint64_t last = 0;
  };
  static constexpr Epochs kDefaultPlacementOnly = {0, 0};
  static constexpr Epochs kNone = {1, 0};
  static constexpr Epochs From(uint64_t first) { return {first, ~uint64_t{0}}; }

  // `thread`: of evenkeel_count and evenkeel_serve_begin. What is pointed to outlives the object.
  PeerService(evenkeel_region* region, int thread, const Slots* slots, const ModelConfig& config, Failure* failure,
              Counters* counters);

  // kDefaultPlacementOnly until told otherwise; who asks for a later epoch before that waits for up to two seconds.
  void Admit(Epochs epochs);

  // What ExchangeServer::Serve asks for.
  absl::Status Serve(const ExchangeServer::Request& request, float* y);

 private:
  void AwaitDecision(const ExchangeServer::Request& request) const;
  absl::Status Compute(const ExchangeServer::Request& request, float* y);

  evenkeel_region* const region_;
  const int thread_;
  const Slots* const slots_;
  const ModelConfig config_;
  Failure* const failure_;
  Counters* const counters_;
  std::atomic<uint64_t> first_epoch_ = 0, last_epoch_ = 0;
  std::vector<float> scratch_;
};

}  // namespace evenkeel::engine
