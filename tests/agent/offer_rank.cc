// SPDX-License-Identifier: Apache-2.0
//
// offer_rank KIND DIRECTORY: offers rank 1 by a transport until it is killed or its standard input ends. Prints how to
// read local slot 0 of layer 0: rank, incarnation, generation, transport, host, address and secret
// (hexadecimal), a line each.
#include <unistd.h>

#include <cinttypes>
#include <cstdio>

#include "absl/strings/escaping.h"

#include "tests/agent/offered_rank.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const evenkeel::agent::OfferedRank rank(argv[1], argv[2], 1);
  const evenkeel::MoveSource source = rank.Source(0, 0);
  std::printf("%d\n%" PRIu64 "\n%" PRIu64 "\n%s\n%s\n%s\n%s\n", source.member.rank.value(), source.member.incarnation,
              source.generation, source.endpoint.transport.c_str(), source.endpoint.host.c_str(),
              source.endpoint.address.c_str(), absl::BytesToHexString(source.endpoint.secret).c_str());
  std::fflush(stdout);
  char ignored = 0;
  while (::read(0, &ignored, 1) > 0) {
  }
  return 0;
}
