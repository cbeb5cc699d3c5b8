// SPDX-License-Identifier: Apache-2.0
#include "controller/access/gate.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "algos/base/status_macros.h"
#include "runtime/clock.h"

namespace evenkeel::controller {
namespace {

// Refusals of one kind that the log tells.
constexpr uint64_t kLoggedAlways = 20;
constexpr uint64_t kLoggedThen = 1'000;

// "" where there is none.
std::string TokenOf(absl::string_view authorization) {
  if (absl::StartsWithIgnoreCase(authorization, "bearer ")) {
    return std::string(absl::StripAsciiWhitespace(authorization.substr(7)));
  }
  std::string plain;
  if (absl::StartsWithIgnoreCase(authorization, "basic ") && absl::Base64Unescape(authorization.substr(6), &plain)) {
    const size_t colon = plain.find(':');
    if (colon != std::string::npos) return plain.substr(colon + 1);
  }
  return "";
}

// Without its port: a caller's connections count together.
std::string HostOf(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

}  // namespace

absl::StatusOr<std::unique_ptr<Gate>> Gate::Open(AccessSettings settings) {
  std::unique_ptr<Gate> gate(new Gate(std::move(settings)));
  if (!gate->settings_.authorities.empty()) {
    EVENKEEL_ASSIGN_OR_RETURN(gate->certificates_, CallerCertificates::Open(gate->settings_.authorities));
  }
  return gate;
}

CallerCertificates::Checked Gate::Identify(const Credentials& credentials) {
  if (!tells_apart()) return {};
  if (!credentials.authorization.empty()) {
    const std::string token = TokenOf(credentials.authorization);
    for (const TokenSettings& known : settings_.tokens) {
      if (!token.empty() && known.hash.Fits(token)) return {{}, {known.name, {known.grant}}};
    }
    return {{Refusal::kBadToken, "the token is not one of those in the configuration"}, {}};
  }
  if (certificates_ == nullptr || credentials.certificate.empty()) {
    const char* wanted = certificates_ == nullptr   ? "a token is wanted"
                         : settings_.tokens.empty() ? "a certificate is wanted"
                                                    : "a certificate or a token is wanted";
    return {{Refusal::kNoCredentials, wanted}, {}};
  }
  return certificates_->Check(credentials.certificate, credentials.between);
}

Judgement Gate::MeterCall(const std::string& caller) {
  if (settings_.calls_per_second_max == 0) return {};
  const double most = settings_.calls_per_second_max;
  const absl::Time now = runtime::MonotonicNow();
  const auto left = [&](const Rate& rate) {
    return std::min(most, rate.left + absl::ToDoubleSeconds(now - rate.at) * most);
  };
  absl::MutexLock lock(&mutex_);
  if (rates_.size() >= kCallersMax && !rates_.contains(caller)) {
    absl::erase_if(rates_, [&](const auto& entry) { return left(entry.second) >= most; });
    if (rates_.size() >= kCallersMax) rates_.clear();
  }
  Rate& rate = rates_.try_emplace(caller, Rate{most, now}).first->second;
  rate = {left(rate), now};
  if (rate.left < 1) {
    return {Refusal::kRate,
            absl::StrCat("more than ", settings_.calls_per_second_max, " calls a second from ", caller)};
  }
  rate.left -= 1;
  return {};
}

absl::StatusOr<Caller> Gate::Admit(const Credentials& credentials, absl::string_view method) {
  if (NeedOf(method) == Need::kNothing) return Caller();
  CallerCertificates::Checked checked = Identify(credentials);
  Judgement& verdict = checked.verdict;
  if (!verdict.refusal.has_value()) {
    verdict = MeterCall(checked.caller.name.empty() ? HostOf(credentials.peer) : checked.caller.name);
  }
  if (!verdict.refusal.has_value() && tells_apart()) verdict = Judge(checked.caller, method);
  if (!verdict.refusal.has_value()) return std::move(checked.caller);
  spdlog::debug("{} from {} refused", std::string(method), credentials.peer);
  return Refuse(*verdict.refusal, verdict.why);
}

absl::Status Gate::AdmitAgent(const Caller& caller, absl::string_view group, RankId rank) {
  if (!tells_apart()) return absl::OkStatus();
  const Judgement verdict = JudgeAgent(caller, group, rank);
  return verdict.refusal.has_value() ? Refuse(*verdict.refusal, verdict.why) : absl::OkStatus();
}

std::string Gate::NameOf(const Credentials& credentials) {
  const CallerCertificates::Checked checked = Identify(credentials);
  return checked.verdict.refusal.has_value() ? "" : checked.caller.name;
}

absl::Status Gate::Refuse(Refusal refusal, absl::string_view why) {
  // Whoever calls again and again does not fill the disk.
  const uint64_t count = ++refused_[static_cast<size_t>(refusal)];
  if (count <= kLoggedAlways || count % kLoggedThen == 0) {
    spdlog::warn("refused ({}, {} times by now): {}", std::string(controller::NameOf(refusal)), count,
                 std::string(why));
  }
  return StatusOf(refusal, why);
}

std::vector<std::pair<std::string, uint64_t>> Gate::refused() const {
  std::vector<std::pair<std::string, uint64_t>> counts;
  for (size_t i = 0; i < kNumRefusals; ++i) {
    counts.emplace_back(controller::NameOf(static_cast<Refusal>(i)), refused_[i].load());
  }
  return counts;
}

}  // namespace evenkeel::controller
