// SPDX-License-Identifier: Apache-2.0
//
// Gate: what every call to the controller passes, by gRPC and by HTTP: who calls, whether it may, whether not too often.
//
// Callers are told apart where authorities or tokens are set; else everyone may do everything, and the rate is bounded by
// address. A token goes before a certificate.
//
// Threads:   any.
// Owns:      counts of refusals, by reason, and a rate for each caller.
// Limits:    kCallersMax rates are kept; beyond, the oldest quiet ones are dropped.
// Errors:    as StatusOf(Refusal): each says why, and is counted.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "controller/access/access.h"
#include "controller/access/access_settings.h"
#include "controller/access/certificates.h"
#include "runtime/token.h"

namespace evenkeel::controller {

class Gate {
 public:
  static constexpr size_t kCallersMax = 4096;

  // What a call brings along.
  struct Credentials {
    std::string peer;           // address
    std::string authorization;  // header of that name: "Bearer TOKEN", or "Basic" with the token as password
    std::string certificate;    // PEM; empty: none was shown
    std::string between;        // PEM, of the authorities between
  };

  static absl::StatusOr<std::unique_ptr<Gate>> Open(AccessSettings settings);

  bool tells_apart() const { return settings_.tells_apart(); }
  bool takes_certificates() const { return certificates_ != nullptr; }
  bool takes_tokens() const { return !settings_.tokens.empty(); }

  // Who may call `method` (access.h).
  absl::StatusOr<Caller> Admit(const Credentials& credentials, absl::string_view method);
  // Whether one that was admitted to attach may speak for that rank.
  absl::Status AdmitAgent(const Caller& caller, absl::string_view group, RankId rank);
  // As verified; empty: it is not known. Counts nothing.
  std::string NameOf(const Credentials& credentials);

  // Counts it; returns its status.
  absl::Status Refuse(Refusal refusal, absl::string_view why);
  // By reason, every one.
  std::vector<std::pair<std::string, uint64_t>> refused() const;

  // Whether a call with that metadata is one that HTTP admitted.
  bool IsPass(absl::string_view metadata) const { return runtime::SameSecret(metadata, pass_); }
  // In the metadata of calls that HTTP admitted already: nobody else knows it.
  const std::string& pass() const { return pass_; }

 private:
  struct Rate {
    double left = 0;
    absl::Time at;
  };

  explicit Gate(AccessSettings settings) : settings_(std::move(settings)), pass_(runtime::NewToken()) {}
  CallerCertificates::Checked Identify(const Credentials& credentials);
  Judgement MeterCall(const std::string& caller) ABSL_LOCKS_EXCLUDED(mutex_);

  const AccessSettings settings_;
  const std::string pass_;
  std::unique_ptr<CallerCertificates> certificates_;
  std::atomic<uint64_t> refused_[kNumRefusals] = {};
  absl::Mutex mutex_;
  absl::btree_map<std::string, Rate> rates_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace evenkeel::controller
