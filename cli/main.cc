// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "cli/keelctl.h"

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  evenkeel::cli::Surroundings surroundings;
  if (const char* address = std::getenv("EVENKEEL_CONTROLLER")) surroundings.default_controller = address;
  if (const char* file = std::getenv("EVENKEEL_CREDENTIALS")) surroundings.credentials = file;
  if (const char* token = std::getenv("EVENKEEL_TOKEN")) surroundings.token = token;
  if (const char* user = std::getenv("USER")) surroundings.user = user;
  surroundings.terminal = isatty(STDOUT_FILENO) == 1;
  surroundings.err_terminal = isatty(STDERR_FILENO) == 1;
  return evenkeel::cli::RunKeelctl(words, surroundings, std::cout, std::cerr);
}
