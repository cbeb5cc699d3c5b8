// SPDX-License-Identifier: Apache-2.0
#include "cli/simulate/progress.h"

#include <algorithm>

#include "absl/strings/str_format.h"

#include "cli/table.h"

namespace evenkeel::cli {

namespace {

constexpr int kWidth = 30;

}  // namespace

Progress::Progress(std::ostream& out, bool terminal, uint64_t total)
    : out_(out), terminal_(terminal), total_(std::max<uint64_t>(total, 1)) {}

Progress::~Progress() {
  if (terminal_ && percent_ >= 0) out_ << "\r\033[2K" << std::flush;
}

void Progress::Step(const std::string& label) {
  done_ = std::min(done_ + 1, total_);
  const int percent = static_cast<int>(done_ * 100 / total_);
  if (!terminal_ || (percent == percent_ && label == label_)) return;
  percent_ = percent;
  label_ = label;
  out_ << absl::StrFormat("\r\033[2K[%s] %3d%%  %s", Bar(percent, 100, kWidth), percent, label) << std::flush;
}

}  // namespace evenkeel::cli
