// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/network.h"

#include <algorithm>
#include <cmath>

namespace evenkeel::sim {

Network::Network(const Options& options, EventQueue* queue, int num_agents, uint64_t seed)
    : options_(options),
      queue_(queue),
      rng_(seed),
      cut_off_until_(static_cast<size_t>(num_agents), absl::InfinitePast()) {}

absl::Time Network::Due(const Stream& stream, absl::Time last) {
  absl::Duration delay = absl::Microseconds(100) - absl::Microseconds(400) * std::log(1.0 - rng_.Uniform());
  if (!calm_ && rng_.Chance(options_.faults.slow_message)) delay += options_.faults.slow_delay * rng_.Uniform();
  const absl::Time due = std::max(queue_->now() + delay, last);
  return std::max(due, cut_off_until_[static_cast<size_t>(stream.agent)]);
}

void Network::Connect(int agent) {
  queue_->After(absl::Milliseconds(1) + absl::Milliseconds(4) * rng_.Uniform(), [this, agent] {
    if (current_controller_ < 0 || cut_off_until_[static_cast<size_t>(agent)] > queue_->now()) {
      handlers_.on_connected(agent, 0, false);
      return;
    }
    auto stream = std::make_unique<Stream>();
    stream->agent = agent;
    stream->controller = current_controller_;
    streams_.push_back(std::move(stream));
    handlers_.on_connected(agent, streams_.size(), true);
  });
}

void Network::SendToController(StreamId id, AgentMessage message) {
  Stream& stream = At(id);
  if (stream.cut) return;
  stream.up.last = Due(stream, stream.up.last);
  stream.up.messages.emplace_back(stream.up.last, std::move(message));
  queue_->At(stream.up.last, [this, id] { DeliverUp(id); });
}

void Network::SendToAgent(StreamId id, ControllerMessage message) {
  Stream& stream = At(id);
  if (stream.cut) return;
  stream.down.last = Due(stream, stream.down.last);
  stream.down.messages.emplace_back(stream.down.last, std::move(message));
  queue_->At(stream.down.last, [this, id] { DeliverDown(id); });
}

void Network::DeliverUp(StreamId id) {
  Stream& stream = At(id);
  if (stream.up.messages.empty() || stream.up.messages.front().first > queue_->now()) return;
  AgentMessage message = std::move(stream.up.messages.front().second);
  stream.up.messages.pop_front();
  if (stream.up.open) handlers_.on_message_to_controller(stream.controller, id, std::move(message));
}

void Network::DeliverDown(StreamId id) {
  Stream& stream = At(id);
  if (stream.down.messages.empty() || stream.down.messages.front().first > queue_->now()) return;
  ControllerMessage message = std::move(stream.down.messages.front().second);
  stream.down.messages.pop_front();
  if (stream.down.open) handlers_.on_message_to_agent(stream.agent, id, std::move(message));
}

void Network::CutUp(StreamId id) {
  Stream& stream = At(id);
  auto& messages = stream.up.messages;
  if (!messages.empty()) messages.resize(messages.size() - rng_.Below(messages.size() + 1));
  // What remains may come late: after the agent's next stream is up.
  const bool late = !calm_ && rng_.Chance(0.3);
  const absl::Duration behind = late ? absl::Seconds(1) * rng_.Uniform() : absl::Milliseconds(1);
  absl::Time end = queue_->now() + behind;
  for (auto& [time, message] : messages) {
    time = std::max(time, end);
    end = time;
    queue_->At(time, [this, id] { DeliverUp(id); });
  }
  queue_->At(end, [this, id] { EndUp(id); });
}

void Network::CutDown(StreamId id, bool tell) {
  Stream& stream = At(id);
  auto& messages = stream.down.messages;
  if (!tell) {
    messages.clear();
    stream.down.open = false;
    return;
  }
  if (!messages.empty()) messages.resize(messages.size() - rng_.Below(messages.size() + 1));
  const absl::Time after = messages.empty() ? queue_->now() : messages.back().first;
  queue_->At(after + absl::Milliseconds(5) * rng_.Uniform(), [this, id] { EndDown(id); });
}

void Network::EndUp(StreamId id) {
  Stream& stream = At(id);
  if (!stream.up.open) return;
  stream.up.open = false;
  handlers_.on_closed_to_controller(stream.controller, id);
}

void Network::EndDown(StreamId id) {
  Stream& stream = At(id);
  if (!stream.down.open) return;
  stream.down.open = false;
  handlers_.on_closed_to_agent(stream.agent, id);
}

void Network::CloseByAgent(StreamId id) {
  if (At(id).cut) {
    CutDown(id, false);
    return;
  }
  At(id).cut = true;
  CutUp(id);
  CutDown(id, false);
}

void Network::CloseByController(StreamId id) {
  Stream& stream = At(id);
  stream.up.open = false;
  if (stream.cut) return;
  stream.cut = true;
  // The agent reads all that was sent before the end.
  queue_->At(std::max(stream.down.last, queue_->now()), [this, id] { EndDown(id); });
}

void Network::Break(StreamId id) {
  if (At(id).cut) return;
  At(id).cut = true;
  CutUp(id);
  CutDown(id, true);
}

void Network::BreakAllOfController(int controller) {
  for (StreamId id = 1; id <= streams_.size(); ++id) {
    Stream& stream = At(id);
    if (stream.controller != controller) continue;
    stream.up.open = false;
    if (stream.cut) continue;
    stream.cut = true;
    CutDown(id, true);
  }
}

std::vector<StreamId> Network::OpenStreams() const {
  std::vector<StreamId> open;
  for (StreamId id = 1; id <= streams_.size(); ++id) {
    if (!At(id).cut) open.push_back(id);
  }
  return open;
}

void Network::Calm() {
  calm_ = true;
  for (absl::Time& until : cut_off_until_) until = absl::InfinitePast();
}

}  // namespace evenkeel::sim
