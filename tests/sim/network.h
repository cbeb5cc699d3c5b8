// SPDX-License-Identifier: Apache-2.0
//
// Network: streams between agents and controllers, as gRPC gives them.
//
// A stream is ordered and reliable while it lasts. When it breaks, each side learns of it in its own time; what was
// under way to the agent is lost from some point on; of what was under way to the controller a first part arrives,
// maybe after the agent's next stream has brought its Attach. An agent that is cut off can open no stream, and what
// it or the controller sends waits or is lost.
//
// Threads:   none.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/time.h"

#include "algos/base/rng.h"
#include "algos/protocol/messages.h"
#include "tests/sim/event_queue.h"
#include "tests/sim/options.h"

namespace evenkeel::sim {

using StreamId = uint64_t;  // also the controller's SessionId; never 0

class Network {
 public:
  struct Handlers {
    // Agent's side. `opened` false: the connection was refused.
    std::function<void(int agent, StreamId stream, bool opened)> on_connected;
    std::function<void(int agent, StreamId stream, ControllerMessage message)> on_message_to_agent;
    std::function<void(int agent, StreamId stream)> on_closed_to_agent;
    // Controller's side.
    std::function<void(int controller, StreamId stream, AgentMessage message)> on_message_to_controller;
    std::function<void(int controller, StreamId stream)> on_closed_to_controller;
  };

  Network(const Options& options, EventQueue* queue, int num_agents, uint64_t seed);
  void SetHandlers(Handlers handlers) { handlers_ = std::move(handlers); }

  // New streams go to this controller; -1: there is none.
  void SetCurrentController(int controller) { current_controller_ = controller; }
  int current_controller() const { return current_controller_; }

  // on_connected is called later.
  void Connect(int agent);
  void SendToController(StreamId stream, AgentMessage message);
  void SendToAgent(StreamId stream, ControllerMessage message);
  // By one of the two ends, or by nobody's will. Both sides are told, the closing agent aside.
  void CloseByAgent(StreamId stream);
  void CloseByController(StreamId stream);
  void Break(StreamId stream);

  void CutOff(int agent, absl::Time until) { cut_off_until_[static_cast<size_t>(agent)] = until; }
  void BreakAllOfController(int controller);
  // Streams that are up on the agent's side.
  std::vector<StreamId> OpenStreams() const;
  int controller_of(StreamId stream) const { return At(stream).controller; }
  int agent_of(StreamId stream) const { return At(stream).agent; }

  void Calm();

 private:
  template <typename Message>
  struct Lane {
    std::deque<std::pair<absl::Time, Message>> messages;
    absl::Time last = absl::InfinitePast();  // nothing overtakes
    bool open = true;                        // the receiver still hears
  };
  struct Stream {
    int agent = 0;
    int controller = 0;
    bool cut = false;  // nothing more is sent
    Lane<AgentMessage> up;
    Lane<ControllerMessage> down;
  };

  Stream& At(StreamId stream) { return *streams_[stream - 1]; }
  const Stream& At(StreamId stream) const { return *streams_[stream - 1]; }
  absl::Time Due(const Stream& stream, absl::Time last);
  void DeliverUp(StreamId stream);
  void DeliverDown(StreamId stream);
  void EndUp(StreamId stream);
  void EndDown(StreamId stream);
  // Keeps a first part of what is under way, and ends the lane some time after it.
  void CutUp(StreamId stream);
  void CutDown(StreamId stream, bool tell);

  const Options options_;
  EventQueue* const queue_;
  Rng rng_;
  Handlers handlers_;
  std::vector<std::unique_ptr<Stream>> streams_;  // by id - 1
  std::vector<absl::Time> cut_off_until_;         // by agent
  int current_controller_ = -1;
  bool calm_ = false;
};

}  // namespace evenkeel::sim
