// SPDX-License-Identifier: Apache-2.0
#include "agent/stores/snapshot_format.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

#include "algos/base/check.h"
#include "algos/base/hash.h"
#include "algos/base/status_macros.h"

namespace evenkeel::agent {

namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kTensorsMax = 1024;
constexpr uint64_t kTensorBytesMax = uint64_t{1} << 40;
constexpr uint64_t kTextBytesMax = 4096;

void Put(uint64_t value, std::string& out) {
  for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(value >> shift));
}

uint64_t Get(absl::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return value;
}

uint64_t DigestOf(absl::string_view bytes) {
  Digest digest;
  for (const char c : bytes) digest.Add(static_cast<unsigned char>(c));
  return digest.value();
}

// Takes values from the front; once one is missing or too large all further ones are 0.
class Reader {
 public:
  explicit Reader(absl::string_view bytes) : left_(bytes) {}

  uint64_t Number(uint64_t most = UINT64_MAX) {
    if (left_.size() < 8) return Fail();
    const uint64_t value = Get(left_);
    left_.remove_prefix(8);
    return value <= most ? value : Fail();
  }
  std::vector<uint64_t> Numbers(uint64_t count, uint64_t most = UINT64_MAX) {
    std::vector<uint64_t> values;
    for (uint64_t i = 0; i < count && ok_; ++i) values.push_back(Number(most));
    return values;
  }
  std::string Text() {
    const uint64_t size = Number(kTextBytesMax);
    if (size > left_.size()) Fail();
    std::string text(left_.substr(0, ok_ ? size : 0));
    left_.remove_prefix(text.size());
    return text;
  }
  bool whole() const { return ok_ && left_.empty(); }

 private:
  uint64_t Fail() {
    ok_ = false;
    left_ = {};
    return 0;
  }

  absl::string_view left_;
  bool ok_ = true;
};

bool TakeNumber(absl::string_view* text, int* value) {
  size_t digits = 0;
  while (digits < text->size() && absl::ascii_isdigit(static_cast<unsigned char>((*text)[digits]))) ++digits;
  if (digits < 5 || digits > 9 || !absl::SimpleAtoi(text->substr(0, digits), value)) return false;
  text->remove_prefix(digits);
  return true;
}

uint64_t EncodedBytes(const SnapshotHeader& header) {
  const uint64_t numbers = 3 + 7 + 1 + 1 + header.tensor_bytes.size() + header.fingerprints.size() + 1;
  return numbers * 8 + header.model.size();
}

}  // namespace

std::string SnapshotFolderName(const StoreIdentity& identity) {
  return absl::StrCat(identity.group, ".v", identity.weights_version);
}

std::string Render(const SnapshotName& name) {
  return absl::StrFormat("layer-%05d.experts-%05d-%05d.snapshot", name.layer.value(), name.range.first.value(),
                         name.range.first.value() + name.range.count - 1);
}

std::optional<SnapshotName> ParseSnapshotName(absl::string_view text) {
  const absl::string_view whole = text;
  int layer = 0, first = 0, last = 0;
  if (!absl::ConsumePrefix(&text, "layer-") || !TakeNumber(&text, &layer) || !absl::ConsumePrefix(&text, ".experts-") ||
      !TakeNumber(&text, &first) || !absl::ConsumePrefix(&text, "-") || !TakeNumber(&text, &last) ||
      text != ".snapshot" || last < first) {
    return std::nullopt;
  }
  const SnapshotName name = {LayerId(layer), {ExpertId(first), last - first + 1}};
  if (Render(name) != whole) return std::nullopt;  // one name for one content
  return name;
}

uint64_t SnapshotHeader::data_at() const { return (EncodedBytes(*this) + kPage - 1) / kPage * kPage; }

uint64_t SnapshotHeader::PlaceOf(ExpertId expert, size_t tensor) const {
  EVENKEEL_CHECK(name.range.Contains(expert));
  const auto before = static_cast<uint64_t>(expert.value() - name.range.first.value());
  return data_at() + before * ExpertRoom(tensor_bytes) + TensorOffsets(tensor_bytes)[tensor];
}

uint64_t SnapshotHeader::FingerprintOf(ExpertId expert) const {
  EVENKEEL_CHECK(name.range.Contains(expert));
  return fingerprints[static_cast<size_t>(expert.value() - name.range.first.value())];
}

SnapshotHeader HeaderOf(const StoreIdentity& identity, const SnapshotName& name, std::vector<uint64_t> fingerprints) {
  SnapshotHeader header;
  header.model = identity.model;
  header.weights_version = identity.weights_version;
  header.manifest_digest = identity.manifest_digest;
  header.num_layers = identity.num_layers;
  header.num_experts = identity.num_experts;
  header.name = name;
  header.tensor_bytes = identity.tensor_bytes[name.layer.idx()];
  header.fingerprints = std::move(fingerprints);
  return header;
}

std::string Encode(const SnapshotHeader& header) {
  std::string bytes;
  Put(SnapshotHeader::kMagic, bytes);
  Put(SnapshotHeader::kVersion, bytes);
  Put(EncodedBytes(header), bytes);
  Put(header.weights_version, bytes);
  Put(header.manifest_digest, bytes);
  Put(static_cast<uint64_t>(header.num_layers), bytes);
  Put(static_cast<uint64_t>(header.num_experts), bytes);
  Put(static_cast<uint64_t>(header.name.layer.value()), bytes);
  Put(static_cast<uint64_t>(header.name.range.first.value()), bytes);
  Put(static_cast<uint64_t>(header.name.range.count), bytes);
  Put(header.model.size(), bytes);
  bytes += header.model;
  Put(header.tensor_bytes.size(), bytes);
  for (const uint64_t tensor : header.tensor_bytes) Put(tensor, bytes);
  for (const uint64_t fingerprint : header.fingerprints) Put(fingerprint, bytes);
  Put(DigestOf(bytes), bytes);
  EVENKEEL_CHECK(bytes.size() == EncodedBytes(header));
  return bytes;
}

absl::StatusOr<uint64_t> HeaderBytes(absl::string_view preamble) {
  if (preamble.size() < SnapshotHeader::kPreambleBytes) return absl::DataLossError("it is cut short");
  if (Get(preamble) != SnapshotHeader::kMagic) return absl::DataLossError("it is no snapshot");
  if (const uint64_t version = Get(preamble.substr(8)); version != SnapshotHeader::kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("it is of version ", version, " of the format, wanted ", SnapshotHeader::kVersion));
  }
  const uint64_t bytes = Get(preamble.substr(16));
  if (bytes < SnapshotHeader::kPreambleBytes || bytes > SnapshotHeader::kBytesMax) {
    return absl::DataLossError(absl::StrCat("its header says it has ", bytes, " bytes"));
  }
  return bytes;
}

absl::StatusOr<SnapshotHeader> DecodeSnapshotHeader(absl::string_view bytes) {
  EVENKEEL_ASSIGN_OR_RETURN(const uint64_t expected, HeaderBytes(bytes));
  if (bytes.size() != expected) return absl::DataLossError("its header is cut short");
  if (Get(bytes.substr(bytes.size() - 8)) != DigestOf(bytes.substr(0, bytes.size() - 8))) {
    return absl::DataLossError("its header does not match its digest");
  }
  bytes.remove_suffix(8);
  bytes.remove_prefix(SnapshotHeader::kPreambleBytes);
  Reader reader(bytes);
  SnapshotHeader header;
  header.weights_version = reader.Number();
  header.manifest_digest = reader.Number();
  header.num_layers = static_cast<int>(reader.Number(INT32_MAX));
  header.num_experts = static_cast<int>(reader.Number(INT32_MAX));
  header.name.layer = LayerId(static_cast<int32_t>(reader.Number(INT32_MAX)));
  header.name.range.first = ExpertId(static_cast<int32_t>(reader.Number(INT32_MAX)));
  header.name.range.count = static_cast<int>(reader.Number(SnapshotHeader::kBytesMax / 8));
  header.model = reader.Text();
  header.tensor_bytes = reader.Numbers(reader.Number(kTensorsMax), kTensorBytesMax);
  header.fingerprints = reader.Numbers(static_cast<uint64_t>(header.name.range.count));
  const int64_t end = int64_t{header.name.range.first.value()} + header.name.range.count;
  if (!reader.whole() || header.name.range.count == 0 || end > header.num_experts ||
      header.name.layer.value() >= header.num_layers) {
    return absl::DataLossError("its header's parts do not add up");
  }
  return header;
}

absl::Status CheckHeader(absl::string_view where, const SnapshotHeader& header, const SnapshotName& name,
                         uint64_t file_bytes, const StoreIdentity& wanted) {
  StoreIdentity found = wanted;
  found.model = header.model;
  found.weights_version = header.weights_version;
  found.manifest_digest = header.manifest_digest;
  found.num_layers = header.num_layers;
  found.num_experts = header.num_experts;
  if (wanted.Has(header.name.layer, header.name.range.first)) {
    found.tensor_bytes[header.name.layer.idx()] = header.tensor_bytes;
  }
  EVENKEEL_RETURN_IF_ERROR(CheckSameWeights(where, found, wanted));
  if (header.name != name) {
    return absl::DataLossError(absl::StrCat(where, ": its header is that of ", Render(header.name)));
  }
  if (header.total_bytes() != file_bytes) {
    return absl::DataLossError(
        absl::StrCat(where, ": it has ", file_bytes, " bytes, its header says ", header.total_bytes()));
  }
  return absl::OkStatus();
}

}  // namespace evenkeel::agent
