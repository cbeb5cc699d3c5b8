// SPDX-License-Identifier: Apache-2.0
#include "agent/ucx_address.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "algos/base/hash.h"
#include "algos/base/status_macros.h"

namespace evenkeel::agent {

namespace {

constexpr uint64_t kFormat = 0x45564B55'00000002u;  // "EVKU", version 2
constexpr uint64_t kBlobBytesMax = 64 * 1024;
constexpr uint64_t kLayersMax = 4096;
constexpr uint64_t kTensorsMax = 1024;
constexpr uint64_t kSlotsMax = 65536;

// Little-endian groups of seven bits, the last one below 128.
void PutNumber(uint64_t value, std::string& out) {
  for (; value >= 128; value >>= 7) out.push_back(static_cast<char>(value % 128 + 128));
  out.push_back(static_cast<char>(value));
}

void PutBlob(const std::string& blob, std::string& out) {
  PutNumber(blob.size(), out);
  out += blob;
}

uint64_t DigestOf(const std::string& bytes, size_t size) {
  Digest digest;
  for (size_t i = 0; i < size; ++i) digest.Add(static_cast<unsigned char>(bytes[i]));
  return digest.value();
}

// Takes values from the front; once something was missing all further ones are 0.
class Reader {
 public:
  Reader(const std::string& bytes, size_t end) : bytes_(bytes), end_(end) {}

  uint64_t Number(uint64_t most = UINT64_MAX) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && at_ < end_; shift += 7) {
      const uint64_t group = static_cast<unsigned char>(bytes_[at_++]);
      value |= (group & 127) << shift;
      if (group < 128) {
        if (value > most) break;
        return value;
      }
    }
    failed_ = true;
    at_ = end_;
    return 0;
  }

  std::string Blob() {
    const uint64_t size = Number(kBlobBytesMax);
    if (size > end_ - at_) {
      failed_ = true;
      return "";
    }
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

  bool whole() const { return !failed_ && at_ == end_; }

 private:
  const std::string& bytes_;
  const size_t end_;
  size_t at_ = 0;
  bool failed_ = false;
};

bool Fits(const TensorPlace& place, int slots_per_rank, uint64_t memory_bytes) {
  const auto slots_before = static_cast<unsigned __int128>(slots_per_rank - 1);
  return slots_per_rank > 0 && slots_before * place.stride + place.offset + place.bytes <= memory_bytes;
}

}  // namespace

std::string EncodeUcxAddress(const UcxAddress& address) {
  std::string bytes;
  PutNumber(kFormat, bytes);
  PutNumber(address.ucx_version, bytes);
  PutNumber(static_cast<uint64_t>(address.member.rank.value()), bytes);
  PutNumber(address.member.incarnation, bytes);
  PutBlob(address.worker, bytes);
  PutNumber(address.memory_bytes, bytes);
  PutNumber(static_cast<uint64_t>(address.table.slots_per_rank), bytes);
  PutNumber(address.table.layers.size(), bytes);
  for (const std::vector<TensorPlace>& tensors : address.table.layers) {
    PutNumber(tensors.size(), bytes);
    for (const TensorPlace& place : tensors) {
      PutNumber(place.offset, bytes);
      PutNumber(place.stride, bytes);
      PutNumber(place.bytes, bytes);
    }
  }
  const uint64_t digest = DigestOf(bytes, bytes.size());
  for (int shift = 0; shift < 64; shift += 8) bytes.push_back(static_cast<char>(digest >> shift));
  return absl::Base64Escape(bytes);
}

absl::StatusOr<UcxAddress> DecodeUcxAddress(const std::string& text) {
  const auto refused = [](const char* why) {
    return absl::FailedPreconditionError(absl::StrCat("read ucx address: ", why));
  };
  std::string bytes;
  if (!absl::Base64Unescape(text, &bytes) || bytes.size() < 8) return refused("it is not one");
  const size_t size = bytes.size() - 8;
  uint64_t digest = 0;
  for (size_t i = 0; i < 8; ++i) digest |= uint64_t{static_cast<unsigned char>(bytes[size + i])} << (8 * i);
  if (digest != DigestOf(bytes, size)) return refused("it was cut or changed on the way");
  Reader reader(bytes, size);
  if (reader.Number() != kFormat) return refused("it is of another version");
  UcxAddress address;
  address.ucx_version = static_cast<uint32_t>(reader.Number(UINT32_MAX));
  address.member.rank = RankId(static_cast<int32_t>(reader.Number(INT32_MAX)));
  address.member.incarnation = reader.Number();
  address.worker = reader.Blob();
  address.memory_bytes = reader.Number();
  address.table.slots_per_rank = static_cast<int>(reader.Number(kSlotsMax));
  address.table.layers.resize(reader.Number(kLayersMax));
  for (std::vector<TensorPlace>& tensors : address.table.layers) {
    tensors.resize(reader.Number(kTensorsMax));
    for (TensorPlace& place : tensors) {
      place.offset = reader.Number();
      place.stride = reader.Number();
      place.bytes = reader.Number();
      if (!Fits(place, address.table.slots_per_rank, address.memory_bytes)) return refused("a tensor lies outside");
    }
  }
  if (!reader.whole()) return refused("its parts do not add up");
  return address;
}

}  // namespace evenkeel::agent
