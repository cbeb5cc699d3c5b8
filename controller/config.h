// SPDX-License-Identifier: Apache-2.0
//
// Config: what a controller is told at its start, from a file and flags, checked whole.
//
// A missing setting takes its default; a setting that is unknown or out of range stops the start.
//
// Errors:    kInvalidArgument naming the field by its path ("groups.chat.window_ms is 0: 10 to 3600000 wanted")
//            or, where the text cannot be read at all, the line and column; kNotFound if there is no such file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "controller/access/access_settings.h"
#include "controller/core/event.h"

namespace evenkeel::v1 {
class ControllerConfig;
}  // namespace evenkeel::v1

namespace evenkeel::controller {

// The routes that FastDeploy's users call.
struct FastDeploySettings {
  bool enabled = true;
  std::string group;  // empty: the only one there is
  std::string user;
  std::string passwd;
  std::string role = "mixed";
};

struct ControllerSettings {
  std::string listen = "127.0.0.1:7400";
  std::string http_listen;  // empty: no HTTP port
  std::string store;        // empty: in memory
  std::string log_level = "info";
  std::string tls_certificate;  // files; empty: no TLS
  std::string tls_key;
  std::string log_format = "text";
  AccessSettings access;
  FastDeploySettings fastdeploy;
  CoordinatorSettings coordinator;
  std::vector<std::string> warnings = {};  // what of the flags has another meaning than it may seem
};

// Values that go before those of the file; empty: not given.
struct ConfigFlags {
  std::string config_path = {};
  std::string listen = {};
  std::optional<std::string> http_listen = {};  // may be given as empty
  std::string store;
  std::string log_level;
  std::string log_format = {};
  std::string policy = {};                     // of `defaults`
  std::optional<uint32_t> episode_steps = {};  // of `defaults`
  // An object of eplb_config.h, or the file that holds one, over `defaults`; with it the mode of `defaults` is off unless
  // `enable_eplb` is true. `enable_eplb` false: off in any case.
  std::string eplb_config = {};
  std::optional<bool> enable_eplb = {};
  bool trust_network = false;  // true: so it is
};

// Protobuf's JSON form if the first character is '{', else its text form. `source` names it in errors.
absl::StatusOr<v1::ControllerConfig> ParseConfig(const std::string& text, absl::string_view source);

// Whether certificates, keys and authorities can be read and fit together.
absl::Status CheckCertificates(const ControllerSettings& settings);

absl::StatusOr<ControllerSettings> SettingsOf(const v1::ControllerConfig& config);

// Reads the file, lays the flags over it, checks everything.
absl::StatusOr<ControllerSettings> LoadSettings(const ConfigFlags& flags);

// All that is in force but passwords, in JSON on one line; SettingsOf of it gives the same settings.
std::string EffectiveConfig(const ControllerSettings& settings);

}  // namespace evenkeel::controller
