// SPDX-License-Identifier: Apache-2.0
//
// What a peer's engine sends over its socket to the reference engine.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "engine/reference/exchange.h"
#include "tests/fuzz/fuzz.h"

namespace evenkeel::fuzz {

std::vector<std::string> Seeds() {
  const auto message = [](engine::MessageKind kind, std::string payload, uint32_t num_groups) {
    engine::MessageHeader header;
    header.kind = kind;
    header.payload_bytes = static_cast<uint32_t>(payload.size());
    header.num_groups = num_groups;
    std::string bytes(sizeof(header), '\0');
    std::memcpy(bytes.data(), &header, sizeof(header));
    return bytes + payload;
  };
  engine::Greeting greeting;
  std::string hello(sizeof(greeting), '\0');
  std::memcpy(hello.data(), &greeting, sizeof(greeting));
  const engine::SlotGroup group = {.local_slot = 0, .expert = 1, .num_rows = 1};
  std::string rows(sizeof(group) + 4 * sizeof(float), '\0');
  std::memcpy(rows.data(), &group, sizeof(group));
  return {message(engine::MessageKind::kHello, hello, 0), message(engine::MessageKind::kRequest, rows, 1),
          message(engine::MessageKind::kBye, "", 0) + message(engine::MessageKind::kHello, hello, 0)};
}

}  // namespace evenkeel::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenkeel;
  int ends[2];
  FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  engine::Connection connection(ends[0]);
  if (write(ends[1], data, std::min<size_t>(size, 1 << 15)) < 0) FUZZ_CHECK(size == 0);
  shutdown(ends[1], SHUT_WR);
  connection.ReadAvailable();
  while (const auto message = connection.Next()) {
    (void)engine::ParseGreeting(*message);
    (void)engine::ParseGroups(*message, 4);
    (void)message->text();
  }
  close(ends[1]);
  return 0;
}
