// SPDX-License-Identifier: Apache-2.0
#include "engine/reference/exchange.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"

namespace evenkeel::engine {
namespace {

constexpr size_t kReadBytes = 64 << 10;
constexpr int kBacklog = 1024;

std::string Errno(absl::string_view what) { return absl::StrCat(what, ": ", std::strerror(errno)); }

// Of engines' sockets: for owner and group alone.
constexpr mode_t kSocketMode = 0660;

// The short path of a socket, through the open directory: sun_path holds 107 characters only.
sockaddr_un AddressOf(int dir_fd, int rank) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/engine-%d.sock", dir_fd, rank);
  return address;
}

bool ConnectTo(int fd, const sockaddr_un& address) {
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

}  // namespace

absl::Status CheckPeer(const Greeting& self, const Greeting& peer) {
  const auto differ = [&](const char* what, uint64_t theirs, uint64_t ours) {
    return absl::FailedPreconditionError(
        absl::StrCat("rank ", peer.rank, " has ", what, " ", theirs, ", rank ", self.rank, " has ", ours));
  };
  const auto number = [](int32_t value) { return static_cast<uint64_t>(static_cast<uint32_t>(value)); };
  if (std::strncmp(self.group, peer.group, sizeof(self.group)) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("rank ", peer.rank, " is of group ",
                                                      std::string(peer.group, strnlen(peer.group, sizeof(peer.group))),
                                                      ", not of ", self.group));
  }
  if (self.num_first_ranks() != peer.num_first_ranks()) {
    return differ("a world of", number(peer.num_first_ranks()), number(self.num_first_ranks()));
  }
  if (self.num_ranks != peer.num_ranks) {
    return differ("room for ranks", number(peer.num_ranks), number(self.num_ranks));
  }
  if (peer.rank < 0 || peer.rank >= self.num_ranks || peer.rank == self.rank) {
    return absl::FailedPreconditionError(
        absl::StrCat("an engine that calls itself rank ", peer.rank, " met rank ", self.rank, " of ", self.num_ranks));
  }
  if (self.num_layers != peer.num_layers) return differ("layers", number(peer.num_layers), number(self.num_layers));
  if (self.num_experts != peer.num_experts) {
    return differ("experts", number(peer.num_experts), number(self.num_experts));
  }
  if (self.slots_per_rank != peer.slots_per_rank) {
    return differ("slots a rank", number(peer.slots_per_rank), number(self.slots_per_rank));
  }
  if (self.hidden_size != peer.hidden_size) {
    return differ("hidden size", number(peer.hidden_size), number(self.hidden_size));
  }
  if (self.weights_version != peer.weights_version) {
    return differ("weights version", peer.weights_version, self.weights_version);
  }
  return absl::OkStatus();
}

absl::StatusOr<Greeting> ParseGreeting(const Message& message) {
  Greeting greeting;
  if (message.payload.size() != sizeof(greeting)) {
    return absl::InvalidArgumentError(absl::StrCat("a greeting of ", message.payload.size(), " bytes"));
  }
  std::memcpy(&greeting, message.payload.data(), sizeof(greeting));
  greeting.group[sizeof(greeting.group) - 1] = '\0';
  return greeting;
}

absl::StatusOr<std::vector<SlotGroup>> ParseGroups(const Message& message, int hidden_size) {
  const size_t num_groups = message.header.num_groups;
  if (num_groups > message.payload.size() / sizeof(SlotGroup)) {
    return absl::InvalidArgumentError(
        absl::StrCat(num_groups, " groups in a request of ", message.payload.size(), " bytes"));
  }
  std::vector<SlotGroup> groups(num_groups);
  const size_t group_bytes = num_groups * sizeof(SlotGroup);
  if (num_groups > 0) std::memcpy(groups.data(), message.payload.data(), group_bytes);
  size_t num_rows = 0;
  for (const SlotGroup& group : groups) {
    if (group.num_rows <= 0 || group.local_slot < 0 || group.expert < 0) {
      return absl::InvalidArgumentError(absl::StrCat("a request for ", group.num_rows, " rows of expert ", group.expert,
                                                     " in local slot ", group.local_slot));
    }
    num_rows += static_cast<size_t>(group.num_rows);
  }
  if (num_rows * static_cast<size_t>(hidden_size) * sizeof(float) != message.payload.size() - group_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a request of ", message.payload.size(), " bytes for ", num_rows, " rows"));
  }
  return groups;
}

Connection::Connection(Connection&& other) noexcept { *this = std::move(other); }

Connection& Connection::operator=(Connection&& other) noexcept {
  if (this == &other) return *this;
  Close("replaced");
  fd_ = std::exchange(other.fd_, -1);
  reason_ = std::move(other.reason_);
  in_ = std::exchange(other.in_, {});
  out_ = std::exchange(other.out_, {});
  taken_ = std::exchange(other.taken_, 0);
  filled_ = std::exchange(other.filled_, 0);
  sent_ = std::exchange(other.sent_, 0);
  return *this;
}

void Connection::Close(std::string reason) {
  if (fd_ < 0) return;
  close(fd_);
  fd_ = -1;
  reason_ = std::move(reason);
  in_.clear();
  out_.clear();
  taken_ = filled_ = sent_ = 0;
}

void Connection::ReadAvailable() {
  if (taken_ > 0) {
    std::copy(in_.begin() + static_cast<ptrdiff_t>(taken_), in_.begin() + static_cast<ptrdiff_t>(filled_), in_.begin());
    filled_ -= std::exchange(taken_, 0);
  }
  while (open()) {
    if (filled_ > kPayloadBytesMax + sizeof(MessageHeader)) return Close("more arrived than was agreed");
    if (filled_ == in_.size()) in_.resize(std::max(kReadBytes, 2 * in_.size()));
    const size_t room = in_.size() - filled_;
    const ssize_t count = recv(fd_, in_.data() + filled_, room, MSG_DONTWAIT);
    if (count == 0) return Close("the peer closed");
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      if (errno != EAGAIN && errno != EWOULDBLOCK) Close(Errno("receive"));
      return;
    }
    filled_ += static_cast<size_t>(count);
    if (static_cast<size_t>(count) < room) return;
  }
}

std::optional<Message> Connection::Next() {
  Message message;
  const size_t left = filled_ - taken_;
  if (!open() || left < sizeof(MessageHeader)) return std::nullopt;
  std::memcpy(&message.header, in_.data() + taken_, sizeof(MessageHeader));
  const MessageHeader& header = message.header;
  if (header.magic != MessageHeader{}.magic || header.payload_bytes > kPayloadBytesMax ||
      header.payload_bytes % sizeof(uint32_t) != 0) {
    Close("what arrived is no message of this protocol");
    return std::nullopt;
  }
  if (left - sizeof(MessageHeader) < header.payload_bytes) return std::nullopt;
  message.payload = std::span<const std::byte>(in_).subspan(taken_ + sizeof(MessageHeader), header.payload_bytes);
  taken_ += sizeof(MessageHeader) + header.payload_bytes;
  return message;
}

void Connection::Send(MessageHeader header, std::span<const std::span<const std::byte>> parts) {
  if (!open()) return;
  size_t payload_bytes = 0;
  for (const auto& part : parts) payload_bytes += part.size();
  EVENKEEL_CHECK(payload_bytes <= kPayloadBytesMax && payload_bytes % sizeof(uint32_t) == 0);
  header.payload_bytes = static_cast<uint32_t>(payload_bytes);
  const auto head = BytesOf(header);
  out_.insert(out_.end(), head.begin(), head.end());
  for (const auto& part : parts) out_.insert(out_.end(), part.begin(), part.end());
  Flush();
}

void Connection::SendText(MessageHeader header, const std::string& text) {
  std::string padded = text;
  padded.resize((text.size() + 3) / 4 * 4, ' ');
  const std::span<const std::byte> part = std::as_bytes(std::span(padded));
  Send(header, {&part, 1});
}

void Connection::Flush() {
  while (open() && sent_ < out_.size()) {
    const ssize_t count = send(fd_, out_.data() + sent_, out_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      if (errno != EAGAIN && errno != EWOULDBLOCK) Close(Errno("send"));
      return;
    }
    sent_ += static_cast<size_t>(count);
  }
  if (sent_ == out_.size()) {
    out_.clear();
    sent_ = 0;
  }
}

absl::StatusOr<RunDirectory> RunDirectory::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return absl::NotFoundError(Errno(absl::StrCat("open run directory ", path)));
  return RunDirectory(fd, path);
}

RunDirectory::~RunDirectory() {
  if (fd_ >= 0) close(fd_);
}

std::string RunDirectory::SocketPath(int rank) const { return absl::StrCat(path_, "/engine-", rank, ".sock"); }

absl::StatusOr<Connection> RunDirectory::Connect(int rank) const {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return absl::ResourceExhaustedError(Errno("make a socket"));
  Connection connection(fd);
  if (!ConnectTo(fd, AddressOf(fd_, rank))) {
    return absl::UnavailableError(Errno(absl::StrCat("connect to ", SocketPath(rank))));
  }
  return connection;
}

absl::StatusOr<int> RunDirectory::Listen(int rank) const {
  if (Connect(rank).ok()) {
    return absl::AlreadyExistsError(absl::StrCat("an engine of rank ", rank, " is serving in ", path_));
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return absl::ResourceExhaustedError(Errno("make a socket"));
  const sockaddr_un address = AddressOf(fd_, rank);
  unlink(address.sun_path);
  // Nobody can connect before it listens.
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      chmod(address.sun_path, kSocketMode) != 0 || listen(fd, kBacklog) != 0) {
    const absl::Status status = absl::UnavailableError(Errno(absl::StrCat("listen at ", SocketPath(rank))));
    close(fd);
    return status;
  }
  return fd;
}

}  // namespace evenkeel::engine
