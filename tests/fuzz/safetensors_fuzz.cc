// SPDX-License-Identifier: Apache-2.0
//
// Files of weights: whatever is taken can be read whole.
#include <cstring>

#include "engine/reference/safetensors.h"
#include "tests/fuzz/fuzz.h"

namespace evenkeel::fuzz {

std::vector<std::string> Seeds() {
  const auto file = [](const std::string& header, size_t num_data) {
    uint64_t length = header.size();
    std::string bytes(sizeof(length), '\0');
    std::memcpy(bytes.data(), &length, sizeof(length));
    return bytes + header + std::string(num_data, '\x3C');
  };
  return {file("{}", 0), file(R"({"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}})", 12),
          file(R"({"__metadata__":{"k":"v"},"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
               R"("b":{"dtype":"F16","shape":[1,2,1],"data_offsets":[4,8]}})",
               8)};
}

}  // namespace evenkeel::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenkeel;
  const auto file = engine::Safetensors::Parse(std::string(fuzz::TextOf(data, size)));
  if (!file.ok()) return 0;
  for (const auto& [name, tensor] : file->tensors()) {
    const auto values = file->Read(name, tensor.shape);
    if (values.ok()) FUZZ_CHECK(values->size() * 2 <= size);
  }
  return 0;
}
