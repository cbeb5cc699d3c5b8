// SPDX-License-Identifier: Apache-2.0
//
// keelctl: from words typed to an exit status.
#pragma once

#include <ostream>
#include <span>
#include <string>

namespace evenkeel::cli {

struct Surroundings {
  std::string default_controller = "127.0.0.1:7400";
  bool terminal = false;         // the output is one
  bool err_terminal = false;     // the error output is one
  std::string user = {};         // who types
  std::string credentials = {};  // file; where --credentials does not name another
  std::string token = {};        // in place of the file's
};

// `words` without the program's name. Exit statuses as in command.h.
int RunKeelctl(std::span<const std::string> words, const Surroundings& surroundings, std::ostream& out,
               std::ostream& err);

}  // namespace evenkeel::cli
