// SPDX-License-Identifier: Apache-2.0
//
// Gateway: the controller's HTTP port.
//
//   POST /v1/<Method>               every Control RPC: JSON of its request in the body, JSON of its answer back
//   GET  /v1/<Method>?field=value   the same for methods that only look: Get..., List..., Check...
//   GET  /v1/Watch<...>?...         streams, as server-sent events; POST streams (Rearrange) too where `accept` says
//                                   text/event-stream, else one line of JSON a message
//   GET  /healthz, /readyz          200 while the process serves; while it leads, else 503
//   GET  /metrics                   Prometheus text
//   POST /rearrange_experts, /get_per_expert_tokens_stats, /check_redundant   as FastDeploy's users know them
//   GET  /                          the web page
//
// Every route passes the gate; browsers send a token as the password that they ask for. With a certificate it speaks TLS
// alone. A request that another site's page has a browser make is refused.
//
// Errors are {"code": number, "status": "NOT_FOUND", "message": text} with the HTTP status that belongs to the code.
// In a stream that has begun they come as an event named "error", or as a last line.
//
// Threads:   its own.
// Limits:    kThreads connections at a time, of them kStreamsMax streams; beyond: 503. Bodies of Options::body_bytes_max bytes.
//            Calls end by kCallDeadline.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "controller/access/certificates.h"
#include "controller/access/gate.h"
#include "controller/config.h"
#include "controller/http/transcoder.h"

namespace evenkeel::controller {

class Gateway {
 public:
  static constexpr int kThreads = 64;
  static constexpr int kStreamsMax = 48;
  static constexpr absl::Duration kCallDeadline = absl::Seconds(30);

  struct Options {
    std::string listen;                     // HOST:PORT; port 0: any free one
    Gate& gate;                             // outlives it
    OwnCertificate* certificate = nullptr;  // likewise; null: no TLS
    size_t body_bytes_max = 64 << 20;
    std::function<bool()> ready;           // from any thread
    std::function<std::string()> metrics;  // likewise; may be empty
    FastDeploySettings fastdeploy = {};
  };

  // Serves `transcoder`, which it owns. kUnavailable where the address cannot be had.
  static absl::StatusOr<std::unique_ptr<Gateway>> Start(Options options, Transcoder transcoder);
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // HOST:PORT with the port that is really served.
  const std::string& address() const;

  // Ends streams and connections, joins the threads. Repeating it does nothing.
  void Stop();

 private:
  struct State;
  explicit Gateway(std::unique_ptr<State> state);

  const std::unique_ptr<State> state_;
};

}  // namespace evenkeel::controller
