// SPDX-License-Identifier: Apache-2.0
//
// Client: one controller, as a command speaks to it.
//
// Threads:   one. Calls wait, at most `deadline`, watches until the controller ends them.
// Errors:    every failed call becomes a status that says what was asked of which address.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "proto/evenkeel/v1/control.grpc.pb.h"
#include "runtime/client_credentials.h"

namespace evenkeel::cli {

class Client {
 public:
  // `user`: the name that the controller notes with what is asked (Operation.requested_by); empty: none.
  explicit Client(std::string address, runtime::ClientCredentials credentials = {}, std::string user = {});

  const std::string& address() const { return address_; }
  evenkeel::v1::Control::Stub& stub() { return *stub_; }

  // A call that must end within `deadline`.
  std::unique_ptr<grpc::ClientContext> Call(absl::Duration deadline = absl::Seconds(10)) const;
  // A stream without end.
  std::unique_ptr<grpc::ClientContext> Watch() const;

  // OK, or "`what` at ADDRESS: message", and what may help.
  absl::Status Explain(const grpc::Status& status, absl::string_view what) const;

 private:
  std::unique_ptr<grpc::ClientContext> Named() const;
  std::string HintOf(grpc::StatusCode code) const;

  const std::string address_;
  const runtime::ClientCredentials credentials_;
  const std::string user_;
  const std::unique_ptr<evenkeel::v1::Control::Stub> stub_;
};

// Protobuf's JSON on one line: field names as in the .proto, every field present, 64-bit numbers as strings.
std::string ToJson(const google::protobuf::Message& message);

}  // namespace evenkeel::cli
