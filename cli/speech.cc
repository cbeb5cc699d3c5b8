// SPDX-License-Identifier: Apache-2.0
#include "cli/speech.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <memory>

#include "absl/strings/string_view.h"

namespace evenkeel::cli {
namespace {

// HTTP/2's greeting, and its first frame: settings, of which there are none.
constexpr char kGreeting[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
constexpr size_t kFrameHead = 9;
constexpr uint8_t kSettings = 4;  // a frame's kind, its fourth byte

struct FreeAddresses {
  void operator()(addrinfo* x) const { freeaddrinfo(x); }
};

}  // namespace

Speech SpeechOf(const std::string& address, absl::Duration at_most) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return Speech::kUnknown;
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0) return Speech::kUnknown;
  const std::unique_ptr<addrinfo, FreeAddresses> addresses(found);
  const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Speech::kUnknown;
  const timeval wait = absl::ToTimeval(at_most);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  Speech speech = Speech::kUnknown;
  if (::connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
      ::send(fd, kGreeting, sizeof(kGreeting) - 1, MSG_NOSIGNAL) > 0) {
    uint8_t head[kFrameHead] = {};
    const ssize_t got = ::recv(fd, head, sizeof(head), MSG_WAITALL);
    // One that wants TLS answers with an alert, or hangs up at once.
    const bool is_settings = got == kFrameHead && head[3] == kSettings;
    if (got >= 0) speech = is_settings ? Speech::kPlain : Speech::kTls;
  }
  ::close(fd);
  return speech;
}

}  // namespace evenkeel::cli
