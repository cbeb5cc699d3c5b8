// SPDX-License-Identifier: Apache-2.0
#include "algos/replay/links.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "algos/base/check.h"
#include "algos/base/ids.h"

namespace evenkeel::algos {

int LinkSpeed::MovesPerWindow() const { return static_cast<int>(std::clamp(1.0 / WindowsPerMove(), 1.0, 1e6)); }

Links::Links(const LinkSpeed& speed, int num_ranks)
    : windows_per_move_(speed.WindowsPerMove()),
      in_free_at_(static_cast<size_t>(num_ranks), 0.0),
      out_free_at_(static_cast<size_t>(num_ranks), 0.0) {
  EVENKEEL_CHECK(windows_per_move_ > 0 && std::isfinite(windows_per_move_));
}

std::optional<int> Links::Begin(const Wave& wave, const Shape& shape, int window) {
  std::vector<double> in = in_free_at_, out = out_free_at_;
  const double now = window;
  double end = now;
  bool busy = false;
  for (const PlannedMove& move : wave.moves) {
    const size_t to = shape.RankOf(move.slot).idx(), from = shape.RankOf(move.sources.front()).idx();
    busy = busy || in_free_at_[to] > now || (from != to && out_free_at_[from] > now);
    in[to] = std::max(in[to], now) + windows_per_move_;
    if (from != to) out[from] = std::max(out[from], now) + windows_per_move_;
    end = std::max({end, in[to], from != to ? out[from] : end});
  }
  // A hair's breadth for sums of rounded quotients.
  const int done = static_cast<int>(std::min(std::ceil(end - 1e-9), 1e9));
  if (busy && done > window + 1) return std::nullopt;
  in_free_at_ = std::move(in);
  out_free_at_ = std::move(out);
  return std::max(done, window + 1);
}

}  // namespace evenkeel::algos
