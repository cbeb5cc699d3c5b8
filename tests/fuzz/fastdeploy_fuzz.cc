// SPDX-License-Identifier: Apache-2.0
//
// Bodies of FastDeploy's HTTP routes: each is answered by JSON with a code.
#include "controller/http/fastdeploy.h"
#include "nlohmann/json.hpp"
#include "tests/fuzz/fuzz.h"

namespace evenkeel::fuzz {

std::vector<std::string> Seeds() {
  return {R"({"user": "u", "passwd": "p", "action": "", "ips": ["10.0.0.1:80", "10.0.0.2:80"]})",
          R"({"user": "u", "passwd": "p", "action": "recv_expert_weight", "data": [[1, 2], [3, 4]]})",
          R"({"user": "u", "passwd": "p", "action": "check_load_weight_result"})",
          R"({"user": "u", "passwd": "p", "clear_stat": true})"};
}

}  // namespace evenkeel::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenkeel;
  controller::FastDeploySettings settings;
  settings.user = "u";
  settings.passwd = "p";
  controller::FastDeploy routes(settings, [](const std::string&, const std::string& json) {
    FUZZ_CHECK(nlohmann::json::accept(json));
    return absl::StatusOr<std::string>("{}");
  });
  const std::string body(fuzz::TextOf(data, size));
  for (const auto& reply : {routes.RearrangeExperts(body), routes.TokensStats(body), routes.CheckRedundant(body)}) {
    FUZZ_CHECK(reply.http_status >= 200 && reply.http_status < 600);
    FUZZ_CHECK(nlohmann::json::accept(reply.body));
  }
  return 0;
}
