// SPDX-License-Identifier: Apache-2.0
//
// Runs a fuzzed parser on its seeds, on the files named, and on seeds changed by chance.
//
// Usage: NAME_fuzz_test [--runs=N] [--write_seeds=DIRECTORY] [FILE...]
// EVENKEEL_SEED sets the course; it is printed, with the number of the input in case of a crash in `last-input`.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "algos/base/rng.h"
#include "tests/fuzz/fuzz.h"

namespace {

using evenkeel::Rng;

constexpr size_t kBytesMax = 1 << 18;

size_t Below(Rng& rng, size_t bound) { return bound == 0 ? 0 : static_cast<size_t>(rng.Next() % bound); }

std::string Interesting(Rng& rng) {
  static constexpr uint64_t kValues[] = {0,
                                         1,
                                         0x7F,
                                         0x80,
                                         0xFF,
                                         0x7FFF,
                                         0xFFFF,
                                         0x7FFFFFFF,
                                         0x80000000,
                                         0xFFFFFFFF,
                                         0x7FFFFFFFFFFFFFFF,
                                         0x8000000000000000,
                                         0xFFFFFFFFFFFFFFFF};
  const uint64_t value = kValues[Below(rng, std::size(kValues))];
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  bytes.resize(size_t{1} << Below(rng, 4));
  return bytes;
}

void Change(Rng& rng, const std::vector<std::string>& seeds, std::string& input) {
  const size_t at = Below(rng, input.size() + 1), length = Below(rng, std::min<size_t>(input.size() - at, 64) + 1);
  const std::string& other = seeds[Below(rng, seeds.size())];
  switch (Below(rng, 8)) {
    case 0:
      if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << Below(rng, 8)));
      return;
    case 1:
      if (at < input.size()) input[at] = static_cast<char>(rng.Next());
      return;
    case 2:
      input.erase(at, length);
      return;
    case 3:
      input.insert(at, input.substr(at, length));
      return;
    case 4: {
      const std::string value = Interesting(rng);
      input.replace(at, std::min(value.size(), input.size() - at), value);
      return;
    }
    case 5: {
      const size_t from = Below(rng, other.size() + 1);
      input.insert(at, other.substr(from, Below(rng, 128)));
      return;
    }
    case 6: {
      static constexpr const char* kTokens[] = {"0", "-1", "1e308", "nan",     "18446744073709551616",
                                                "[", "]",  "{",     "}",       "\"",
                                                ",", ":",  "null",  "\\u0000", "\xFF"};
      input.insert(at, kTokens[Below(rng, std::size(kTokens))]);
      return;
    }
    default:
      input.resize(at);
  }
}

void Run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

void Write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

int main(int argc, char** argv) {
  size_t num_runs = 20'000;
  const std::vector<std::string> seeds = evenkeel::fuzz::Seeds();
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--runs=", 0) == 0) {
      num_runs = std::strtoull(argument.c_str() + 7, nullptr, 10);
    } else if (argument.rfind("--write_seeds=", 0) == 0) {
      for (size_t s = 0; s < seeds.size(); ++s) Write(argument.substr(14) + "/seed-" + std::to_string(s), seeds[s]);
      return 0;
    } else {
      std::ifstream file(argument, std::ios::binary);
      Run(std::string(std::istreambuf_iterator<char>(file), {}));
    }
  }
  const char* wanted = std::getenv("EVENKEEL_SEED");
  const uint64_t seed = wanted == nullptr ? 20261123 : std::strtoull(wanted, nullptr, 10);
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  Rng rng(seed);
  const char* folder = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  const std::string last = folder == nullptr ? "" : std::string(folder) + "/last-input";
  for (const std::string& input : seeds) Run(input);
  for (size_t run = 0; run < num_runs; ++run) {
    std::string input = seeds[Below(rng, seeds.size())];
    for (size_t changes = 1 + Below(rng, 6); changes > 0; --changes) Change(rng, seeds, input);
    if (input.size() > kBytesMax) input.resize(kBytesMax);
    if (!last.empty() && run % 64 == 0) Write(last, "run " + std::to_string(run) + " of seed " + std::to_string(seed));
    Run(input);
  }
  std::printf("%zu seeds, %zu inputs\n", seeds.size(), num_runs);
  return 0;
}
