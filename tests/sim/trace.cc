// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/trace.h"

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace evenkeel::sim {

void Trace::Add(const char* what, Where where, int64_t a, int64_t b, int64_t c) {
  const Line line = {queue_->now(), what, where, a, b, c};
  digest_.Add(static_cast<uint64_t>(absl::ToUnixNanos(line.time)));
  uint64_t name = 0;
  for (const char* at = what; *at != 0; ++at) name = name * 31 + static_cast<uint64_t>(*at);
  digest_.Add(name);
  digest_.Add(static_cast<uint64_t>(where.group) << 32 ^ static_cast<uint64_t>(where.rank));
  digest_.Add(static_cast<uint64_t>(a));
  digest_.Add(static_cast<uint64_t>(b));
  digest_.Add(static_cast<uint64_t>(c));
  if (verbose_) std::printf("%s\n", ToText(line).c_str());
  lines_[num_lines_++ % kLinesKept] = line;
}

void Trace::Violation(std::string text) {
  if (violated()) return;
  violation_ = absl::StrFormat("at %.6f s: %s", absl::ToDoubleSeconds(queue_->now() - absl::UnixEpoch()), text);
}

std::vector<std::string> Trace::LastLines() const {
  std::vector<std::string> texts;
  const uint64_t first = num_lines_ > kLinesKept ? num_lines_ - kLinesKept : 0;
  for (uint64_t i = first; i < num_lines_; ++i) texts.push_back(ToText(lines_[i % kLinesKept]));
  return texts;
}

std::string Trace::ToText(const Line& line) {
  std::string who = line.where.group < 0 ? "-" : absl::StrCat("g", line.where.group);
  if (line.where.rank >= 0) absl::StrAppend(&who, "/", line.where.rank);
  return absl::StrFormat("%12.6f %-6s %s %d %d %d", absl::ToDoubleSeconds(line.time - absl::UnixEpoch()), who,
                         line.what, line.a, line.b, line.c);
}

}  // namespace evenkeel::sim
