// SPDX-License-Identifier: Apache-2.0
//
// Exchange: the messages that engines send each other, and a socket that carries them.
//
// Rank a asks rank b over a connection that a opened to b's socket in the run directory; b answers on the same one.
// First a greets and b answers with its own greeting or refuses in words. Afterwards a has at most one request open
// on a connection; closing it takes the request back. A message is a header and a payload of whole 4-byte words.
// Either side that finds that the two do not fit, or that it cannot serve at all, says so (kRefused of serial 0) before
// it closes, so that both know why.
//
// Threads:   a Connection belongs to one thread.
// Limits:    kPayloadBytesMax per message; larger ones end the connection.
// Errors:    a Connection that failed, ended or got nonsense is closed and says why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace evenkeel::engine {

inline constexpr uint32_t kPayloadBytesMax = uint32_t{64} << 20;

enum class MessageKind : uint32_t { kHello = 1, kWelcome, kRefused, kRequest, kAnswer, kBye };

struct MessageHeader {
  uint32_t magic = 0x33584B45;  // "EKX3"
  MessageKind kind = MessageKind::kHello;
  uint32_t payload_bytes = 0;
  uint32_t serial = 0;              // of the request, from 1, per connection's owner; 0: of the connection
  int64_t ticket = 0;               // of the asker's step
  uint64_t epoch = 0;               // of the maps that the asker's step follows
  uint64_t target_incarnation = 0;  // whom the asker means
  int32_t layer = 0;
  uint32_t num_groups = 0;  // of a request's payload
  int32_t phase = 0;        // evenkeel_phase of the asker's step
  uint32_t unused = 0;
};

// Payload of a request: the groups, then the rows of all groups, hidden_size floats each. Of an answer: as many rows.
// Of kRefused: words.
struct SlotGroup {
  int32_t local_slot = 0;
  int32_t expert = 0;  // what the asker's map says is in it
  int32_t num_rows = 0;
};

// Payload of kHello and kWelcome: who speaks.
struct Greeting {
  uint64_t incarnation = 0;
  uint64_t epoch = 0;
  uint64_t weights_version = 0;
  int32_t rank = 0;
  int32_t num_ranks = 0;  // that the group may ever have
  int32_t world = 0;      // that made it; 0: all
  int32_t num_layers = 0;
  int32_t num_experts = 0;
  int32_t slots_per_rank = 0;
  int32_t hidden_size = 0;
  int32_t unused = 0;
  char group[64] = {};

  int num_first_ranks() const { return world == 0 ? num_ranks : world; }
};

// Why engines `self` and `peer` cannot work together; OK if they can.
absl::Status CheckPeer(const Greeting& self, const Greeting& peer);

struct Message {
  MessageHeader header;
  std::span<const std::byte> payload;  // until the next ReadAvailable

  // Without what SendText adds to fill the last word.
  std::string text() const {
    const std::string text(reinterpret_cast<const char*>(payload.data()), payload.size());
    return text.substr(0, text.find_last_not_of(' ') + 1);
  }
};
absl::StatusOr<Greeting> ParseGreeting(const Message& message);
// The groups of a request, checked against its length. Requires: hidden_size > 0.
absl::StatusOr<std::vector<SlotGroup>> ParseGroups(const Message& message, int hidden_size);

class Connection {
 public:
  Connection() = default;
  explicit Connection(int fd) : fd_(fd) {}
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&& other) noexcept;
  ~Connection() { Close("closed here"); }

  bool open() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  const std::string& reason() const { return reason_; }  // of having closed
  bool has_unsent() const { return sent_ < out_.size(); }

  void Close(std::string reason);
  // Takes in all that has arrived; closes at the end of the stream.
  void ReadAvailable();
  // The next whole message; none if there is none yet. Nonsense closes.
  std::optional<Message> Next();
  // Queues a message whose payload is the given parts, one after the other, and sends what the socket takes.
  void Send(MessageHeader header, std::span<const std::span<const std::byte>> parts);
  void SendText(MessageHeader header, const std::string& text);
  void Flush();

 private:
  int fd_ = -1;
  std::string reason_ = "never opened";
  std::vector<std::byte> in_;  // grows to the largest message; bytes taken_ to filled_ are to be read
  size_t taken_ = 0, filled_ = 0;
  std::vector<std::byte> out_;
  size_t sent_ = 0;
};

// Sockets of a run directory, which may have a path of any length.
class RunDirectory {
 public:
  static absl::StatusOr<RunDirectory> Open(const std::string& path);
  RunDirectory(RunDirectory&& other) noexcept : fd_(other.fd_), path_(other.path_) { other.fd_ = -1; }
  RunDirectory& operator=(RunDirectory&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    return *this;
  }
  ~RunDirectory();

  const std::string& path() const { return path_; }
  std::string SocketPath(int rank) const;
  // kUnavailable while nobody listens there.
  absl::StatusOr<Connection> Connect(int rank) const;
  // The listening socket of `rank`. kAlreadyExists where a living engine has it; a dead one's is replaced.
  absl::StatusOr<int> Listen(int rank) const;

 private:
  RunDirectory(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  int fd_;
  std::string path_;
};

template <typename T>
std::span<const std::byte> BytesOf(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace evenkeel::engine
