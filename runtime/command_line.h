// SPDX-License-Identifier: Apache-2.0
//
// CommandLine: how the daemons read theirs: absl's flags, whose words may be joined by dashes as well as underscores
// (--episode-steps is --episode_steps), and a --help that shows the daemon's own flags alone.
//
// Threads:   once, at the start of main.
// Errors:    kInvalidArgument for an argument that is no flag, which is named. An unknown flag, or a value that is none of
//            its type, ends the process with a sentence that names it; so do --help and --version, after they have answered.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace evenkeel::runtime {

// `usage`: what --help says before the flags. `main_file`: end of the path of the file that defines them, as
// "agent/main.cc".
absl::Status ParseCommandLine(int argc, char** argv, const std::string& usage, const std::string& main_file);

}  // namespace evenkeel::runtime
