// SPDX-License-Identifier: Apache-2.0
//
// ControlService: what operators, keelctl and programs ask. Each call becomes a task on the strand, where the
// conductor answers it.
//
// Threads:   the constructor and EndAll from any; NextWakeup and Wake on the strand.
// Owns:      the watchers' streams. Strand and conductor outlive the calls; the service outlives the strand's
//            last task.
// Limits:    the strand's queue: beyond it a call ends with RESOURCE_EXHAUSTED. Access::watches_max watching calls.
//            kPlansMax stateless plans wait, on a thread of their own: they hold up nobody else's.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "controller/conductor.h"
#include "controller/control_calls.h"
#include "runtime/strand.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace evenkeel::controller {

class ControlService {
 public:
  struct State;  // for the calls, in the .cc alone

  static constexpr size_t kPlansMax = 8;

  // `default_policy`: of stateless plans that name none.
  ControlService(runtime::Strand& strand, Conductor& conductor, std::string default_policy,
                 const ControlCalls::Access& access);
  ~ControlService();

  // For the server's builder.
  grpc::Service& service();

  // When watchers of stats are to be looked at; InfiniteFuture if there are none.
  absl::Time NextWakeup() const;
  // Sends what is due. Called when NextWakeup is reached.
  void Wake(absl::Time now);

  // Ends every watching call, on the strand; new ones are refused.
  void EndAll(absl::Status why);

 private:
  std::unique_ptr<State> state_;
};

}  // namespace evenkeel::controller
