// SPDX-License-Identifier: Apache-2.0
#include "controller/config.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/type_resolver_util.h>

#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "algos/base/status_macros.h"
#include "controller/access/certificates.h"
#include "controller/eplb_config.h"
#include "controller/group_config.h"
#include "proto/convert_common.h"
#include "proto/evenkeel/v1/config.pb.h"
#include "runtime/logging.h"

namespace evenkeel::controller {
namespace {

constexpr uint64_t kYearMs = uint64_t{365} * 86'400'000;

// Keeps the first error of protobuf's text parser, with the line it is in: so the field is named in any case.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  explicit FirstError(const std::string& text) : lines_(absl::StrSplit(text, '\n')) {}

  void AddError(int line, int column, const std::string& message) override {
    if (!message_.empty()) return;
    const bool known = line >= 0 && static_cast<size_t>(line) < lines_.size();
    message_ = absl::StrCat("line ", line + 1, ", column ", column + 1, ": ", message, " in '",
                            known ? absl::StripAsciiWhitespace(lines_[static_cast<size_t>(line)]) : "", "'");
  }
  const std::string& message() const { return message_; }

 private:
  const std::vector<std::string> lines_;
  std::string message_;
};

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  // From an empty file nothing would be inserted, which counts as a failure.
  if (file.is_open() && file.peek() == std::ifstream::traits_type::eof() && !file.bad()) return "";
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return absl::NotFoundError(absl::StrCat("configuration ", path, ": cannot be read"));
  }
  return text.str();
}

// Their port.
absl::StatusOr<int> CheckListen(const char* field, const std::string& listen) {
  const size_t colon = listen.rfind(':');
  int port = -1;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(listen.substr(colon + 1), &port) || port < 0 ||
      port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(field, " is '", listen, "': HOST:PORT wanted"));
  }
  return port;
}

bool IsLoopback(const std::string& listen) {
  const std::string host = listen.substr(0, listen.rfind(':'));
  return host == "localhost" || host == "[::1]" || absl::StartsWith(host, "127.") || absl::StartsWith(host, "unix");
}

absl::Status ReadTokens(const v1::ControllerConfig& config, std::vector<TokenSettings>& tokens) {
  for (const v1::TokenConfig& token : config.tokens()) {
    const std::string at = absl::StrCat("tokens.", token.name());
    if (token.name().empty()) return absl::InvalidArgumentError("tokens: one without a name");
    for (const TokenSettings& other : tokens) {
      if (other.name == token.name()) return absl::InvalidArgumentError(absl::StrCat(at, ": the name is there twice"));
    }
    const absl::StatusOr<Grant> grant = ParseGrant(token.role());
    if (!grant.ok()) return absl::InvalidArgumentError(absl::StrCat(at, ".role: ", grant.status().message()));
    const absl::StatusOr<runtime::TokenHash> hash = runtime::ParseTokenHash(token.hash());
    if (!hash.ok()) return absl::InvalidArgumentError(absl::StrCat(at, ".hash: ", hash.status().message()));
    tokens.push_back({token.name(), *grant, *hash});
  }
  return absl::OkStatus();
}

absl::Status ReadLimits(const v1::LimitsConfig& config, AccessSettings& access) {
  if (config.has_message_bytes_max()) {
    EVENKEEL_RETURN_IF_ERROR(proto::CheckRange("limits.message_bytes_max", config.message_bytes_max(),
                                               uint64_t{1} << 20, uint64_t{1} << 30));
    access.message_bytes_max = config.message_bytes_max();
  }
  EVENKEEL_RETURN_IF_ERROR(
      ReadCount({"limits.agents_max", 1, 65'536}, config.has_agents_max(), config.agents_max(), &access.agents_max));
  EVENKEEL_RETURN_IF_ERROR(ReadCount({"limits.watches_max", 1, 65'536}, config.has_watches_max(), config.watches_max(),
                                     &access.watches_max));
  if (config.has_calls_per_second_max()) {
    EVENKEEL_RETURN_IF_ERROR(
        proto::CheckRange("limits.calls_per_second_max", config.calls_per_second_max(), 0, 1'000'000));
    access.calls_per_second_max = config.calls_per_second_max();
  }
  return absl::OkStatus();
}

// What reaches beyond this host is to be encrypted, and callers to be told apart.
absl::Status CheckReach(const ControllerSettings& settings) {
  if (settings.access.trust_network) return absl::OkStatus();
  const std::pair<const char*, const std::string&> ports[] = {{"listen", settings.listen},
                                                              {"http_listen", settings.http_listen}};
  for (const auto& [field, listen] : ports) {
    if (listen.empty() || IsLoopback(listen)) continue;
    const char* lacking = settings.tls_certificate.empty() ? "tls_certificate"
                          : !settings.access.tells_apart() ? "tls_client_ca or tokens"
                                                           : nullptr;
    if (lacking == nullptr) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(field, " is '", listen, "', which is not loopback, without ", lacking,
                     ": whoever reaches it could do everything; --trust_network says that this is wanted"));
  }
  return absl::OkStatus();
}

absl::StatusOr<AccessSettings> AccessOf(const v1::ControllerConfig& config) {
  AccessSettings access;
  access.authorities = config.tls_client_ca();
  if (!access.authorities.empty() && config.tls_certificate().empty()) {
    return absl::InvalidArgumentError("tls_client_ca without tls_certificate: callers show certificates by TLS alone");
  }
  access.trust_network = config.trust_network();
  EVENKEEL_RETURN_IF_ERROR(ReadTokens(config, access.tokens));
  EVENKEEL_RETURN_IF_ERROR(ReadLimits(config.limits(), access));
  return access;
}

// Beside an API on any free port nothing is to be fixed.
std::string DefaultHttpListen(int api_port) { return api_port == 0 ? "127.0.0.1:0" : "127.0.0.1:7401"; }

absl::StatusOr<FastDeploySettings> FastDeployOf(const v1::FastDeployConfig& config) {
  FastDeploySettings settings;
  if (config.has_enabled()) settings.enabled = config.enabled();
  settings.group = config.group();
  settings.user = config.user();
  settings.passwd = config.passwd();
  if (config.has_role()) settings.role = config.role();
  if (settings.role != "mixed" && settings.role != "prefill" && settings.role != "decode") {
    return absl::InvalidArgumentError(
        absl::StrCat("fastdeploy.role is '", settings.role, "': mixed, prefill or decode wanted"));
  }
  return settings;
}

}  // namespace

absl::StatusOr<v1::ControllerConfig> ParseConfig(const std::string& text, absl::string_view source) {
  v1::ControllerConfig config;
  const absl::string_view start = absl::StripLeadingAsciiWhitespace(text);
  if (absl::StartsWith(start, "{")) {
    const auto status = google::protobuf::util::JsonStringToMessage(text, &config);
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("configuration ", source, ": ", std::string(status.message())));
    }
    return config;
  }
  FirstError error(text);
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (!parser.ParseFromString(text, &config)) {
    return absl::InvalidArgumentError(absl::StrCat("configuration ", source, ": ", error.message()));
  }
  return config;
}

absl::Status CheckCertificates(const ControllerSettings& settings) {
  if (settings.tls_certificate.empty()) return absl::OkStatus();
  EVENKEEL_RETURN_IF_ERROR(OwnCertificate::Open(settings.tls_certificate, settings.tls_key).status());
  if (settings.access.authorities.empty()) return absl::OkStatus();
  return CallerCertificates::Open(settings.access.authorities).status();
}

absl::StatusOr<ControllerSettings> SettingsOf(const v1::ControllerConfig& config) {
  ControllerSettings settings;
  if (config.has_listen()) settings.listen = config.listen();
  if (config.has_store()) settings.store = config.store();
  if (config.has_log_level()) settings.log_level = config.log_level();
  settings.tls_certificate = config.tls_certificate();
  settings.tls_key = config.tls_key();
  EVENKEEL_ASSIGN_OR_RETURN(const int api_port, CheckListen("listen", settings.listen));
  settings.http_listen = config.has_http_listen() ? config.http_listen() : DefaultHttpListen(api_port);
  if (!settings.http_listen.empty()) {
    EVENKEEL_RETURN_IF_ERROR(CheckListen("http_listen", settings.http_listen).status());
  }
  if (settings.tls_certificate.empty() != settings.tls_key.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("tls_certificate is '", settings.tls_certificate, "', tls_key is '",
                                                   settings.tls_key, "': both or neither wanted"));
  }
  EVENKEEL_ASSIGN_OR_RETURN(settings.access, AccessOf(config));
  EVENKEEL_RETURN_IF_ERROR(CheckReach(settings));
  if (absl::Status status = runtime::ValidateLogLevel(settings.log_level); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("log_level: ", status.message()));
  }
  if (config.has_log_format()) settings.log_format = config.log_format();
  if (absl::Status status = runtime::ValidateLogFormat(settings.log_format); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("log_format: ", status.message()));
  }
  EVENKEEL_ASSIGN_OR_RETURN(settings.fastdeploy, FastDeployOf(config.fastdeploy()));
  CoordinatorSettings& core = settings.coordinator;
  EVENKEEL_RETURN_IF_ERROR(ReadMs({"listen_interval_ms", 0, 600'000}, config.has_listen_interval_ms(),
                                  config.listen_interval_ms(), &core.listen_interval));
  EVENKEEL_RETURN_IF_ERROR(ReadCount({"num_groups_max", 1, 65'536}, config.has_num_groups_max(),
                                     config.num_groups_max(), &core.num_groups_max));
  EVENKEEL_RETURN_IF_ERROR(ReadCount({"num_operations_kept", 1, 10'000}, config.has_num_operations_kept(),
                                     config.num_operations_kept(), &core.num_operations_kept));
  EVENKEEL_RETURN_IF_ERROR(
      ReadMs({"group_kept_ms", 1000, kYearMs}, config.has_group_kept_ms(), config.group_kept_ms(), &core.group_kept));
  if (config.has_group_bytes_max()) {
    EVENKEEL_RETURN_IF_ERROR(
        proto::CheckRange("group_bytes_max", config.group_bytes_max(), uint64_t{1} << 20, proto::kBytesMax));
    core.group_bytes_max = config.group_bytes_max();
  }
  EVENKEEL_RETURN_IF_ERROR(ReadGroup("defaults", config.defaults(), v1::GroupConfig(), &core.defaults));
  // Ordered by name: protobuf's maps have an order of their own.
  for (const auto& [name, group] :
       std::map<std::string, v1::GroupConfig>(config.groups().begin(), config.groups().end())) {
    GroupSettings group_settings = core.defaults;
    EVENKEEL_RETURN_IF_ERROR(ReadGroup(absl::StrCat("groups.", name), group, config.defaults(), &group_settings));
    core.groups.emplace_back(name, std::move(group_settings));
  }
  return settings;
}

namespace {

absl::StatusOr<std::vector<std::string>> ApplyEplbFlags(const ConfigFlags& flags, v1::ControllerConfig& config) {
  std::vector<std::string> warnings;
  if (!flags.eplb_config.empty()) {
    std::string json = flags.eplb_config;
    if (!absl::StartsWith(absl::StripLeadingAsciiWhitespace(json), "{")) {
      EVENKEEL_ASSIGN_OR_RETURN(json, ReadFile(flags.eplb_config));
    }
    EVENKEEL_ASSIGN_OR_RETURN(warnings, ApplyEplbConfig(json, &config));
  }
  const bool off = flags.enable_eplb.has_value() ? !*flags.enable_eplb : !flags.eplb_config.empty();
  if (off) config.mutable_defaults()->set_mode("off");
  if (off && !flags.enable_eplb.has_value()) {
    warnings.push_back("--eplb-config without --enable-eplb: the mode is off");
  }
  return warnings;
}

}  // namespace

absl::StatusOr<ControllerSettings> LoadSettings(const ConfigFlags& flags) {
  v1::ControllerConfig config;
  if (!flags.config_path.empty()) {
    EVENKEEL_ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.config_path));
    EVENKEEL_ASSIGN_OR_RETURN(config, ParseConfig(text, flags.config_path));
  }
  if (!flags.listen.empty()) config.set_listen(flags.listen);
  if (flags.http_listen.has_value()) config.set_http_listen(*flags.http_listen);
  if (!flags.store.empty()) config.set_store(flags.store);
  if (!flags.log_level.empty()) config.set_log_level(flags.log_level);
  if (!flags.log_format.empty()) config.set_log_format(flags.log_format);
  if (!flags.policy.empty()) config.mutable_defaults()->set_policy(flags.policy);
  if (flags.episode_steps.has_value()) config.mutable_defaults()->set_episode_steps(*flags.episode_steps);
  if (flags.trust_network) config.set_trust_network(true);
  EVENKEEL_ASSIGN_OR_RETURN(std::vector<std::string> warnings, ApplyEplbFlags(flags, config));
  EVENKEEL_ASSIGN_OR_RETURN(ControllerSettings settings, SettingsOf(config));
  settings.warnings = std::move(warnings);
  return settings;
}

namespace {

void WriteAccess(const AccessSettings& access, v1::ControllerConfig& config) {
  config.set_tls_client_ca(access.authorities);
  for (const TokenSettings& token : access.tokens) {
    v1::TokenConfig* out = config.add_tokens();
    out->set_name(token.name);
    out->set_role(NameOf(token.grant));
    out->set_hash(
        absl::StrCat("sha256:", absl::BytesToHexString(token.hash.salt), ":", absl::BytesToHexString(token.hash.hash)));
  }
  config.set_trust_network(access.trust_network);
  v1::LimitsConfig* limits = config.mutable_limits();
  limits->set_message_bytes_max(access.message_bytes_max);
  limits->set_agents_max(static_cast<uint32_t>(access.agents_max));
  limits->set_watches_max(static_cast<uint32_t>(access.watches_max));
  limits->set_calls_per_second_max(access.calls_per_second_max);
}

// Protobuf's JSON with its maps in the order of their keys, so that equal settings read alike.
std::string ToStableJson(const google::protobuf::Message& message) {
  std::string bytes, json;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  const std::unique_ptr<google::protobuf::util::TypeResolver> types(
      google::protobuf::util::NewTypeResolverForDescriptorPool("evenkeel",
                                                               google::protobuf::DescriptorPool::generated_pool()));
  // Only fails for malformed well-known types, of which there are none.
  (void)google::protobuf::util::BinaryToJsonString(types.get(), "evenkeel/" + message.GetTypeName(), bytes, &json,
                                                   options);
  return json;
}

}  // namespace

std::string EffectiveConfig(const ControllerSettings& settings) {
  v1::ControllerConfig config;
  config.set_listen(settings.listen);
  config.set_http_listen(settings.http_listen);
  config.set_store(settings.store);
  config.set_log_level(settings.log_level);
  config.set_log_format(settings.log_format);
  v1::FastDeployConfig* fastdeploy = config.mutable_fastdeploy();
  fastdeploy->set_enabled(settings.fastdeploy.enabled);
  fastdeploy->set_group(settings.fastdeploy.group);
  fastdeploy->set_user(settings.fastdeploy.user);
  fastdeploy->set_role(settings.fastdeploy.role);
  config.set_tls_certificate(settings.tls_certificate);
  config.set_tls_key(settings.tls_key);
  WriteAccess(settings.access, config);
  const CoordinatorSettings& core = settings.coordinator;
  config.set_listen_interval_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(core.listen_interval)));
  config.set_num_groups_max(static_cast<uint32_t>(core.num_groups_max));
  config.set_num_operations_kept(static_cast<uint32_t>(core.num_operations_kept));
  config.set_group_kept_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(core.group_kept)));
  config.set_group_bytes_max(core.group_bytes_max);
  WriteGroup(core.defaults, config.mutable_defaults());
  for (const auto& [name, group] : core.groups) WriteGroup(group, &(*config.mutable_groups())[name]);
  return ToStableJson(config);
}

}  // namespace evenkeel::controller
