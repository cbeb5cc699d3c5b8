// SPDX-License-Identifier: Apache-2.0
//
// AgentService: the agents' streams. It turns messages into valid values on gRPC's threads, hands them to the
// strand one by one, and carries the coordinator's answers out.
//
// A session's next message is read when the strand has dealt with the one before, so at most one message of
// each waits in the strand's queue, and an agent that sends too fast is slowed by gRPC's flow control. A
// session whose own reader is too slow is disconnected.
//
// Threads:   Send, Close and CloseAll from any; NextWakeup, Wake and Listener on the strand.
// Owns:      the streams; outside, a session is known by its id alone. The strand outlives the service's calls,
//            the service outlives the strand's last task, the gate both.
// Limits:    kWriteQueueMax messages waiting for a session, Options::agents_max sessions; one that sends no Attach within
//            Options::attach_within is ended.
// Errors:    a malformed message ends its stream with INVALID_ARGUMENT and the name of the field.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "algos/protocol/messages.h"
#include "controller/access/gate.h"
#include "controller/core/event.h"
#include "runtime/strand.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace evenkeel::controller {

class AgentService {
 public:
  struct State;  // for the streams, in the .cc alone
  struct Listener {
    std::function<void(SessionId, AgentMessage)> on_message;
    std::function<void(SessionId)> on_detached;  // last call for a session, if it ever sent a valid Attach
  };

  static constexpr size_t kWriteQueueMax = 4096;

  struct Options {
    absl::Duration attach_within = absl::Seconds(10);
    int agents_max = 16'384;
  };

  AgentService(runtime::Strand& strand, Gate& gate, Listener listener, const Options& options);
  ~AgentService();

  // For the server's builder.
  grpc::Service& service();

  // Unknown sessions are ignored: they have just ended.
  void Send(SessionId session, const SharedMessage& message);
  // After what was sent before; with the status of a Refused among it, else UNAVAILABLE.
  void Close(SessionId session);
  // When a session is next due to have sent its Attach; Wake then ends those that have not (DEADLINE_EXCEEDED).
  absl::Time NextWakeup() const;
  void Wake(absl::Time now);
  // Every session, and from now on each new one: UNAVAILABLE.
  void CloseAll(absl::Status why);

 private:
  std::unique_ptr<State> state_;
};

}  // namespace evenkeel::controller
