// SPDX-License-Identifier: Apache-2.0
//
// Transcoder: calls a gRPC service with JSON instead of protobuf, by protobuf's own mapping, for every method it has.
//
// Field names are those of the .proto; 64-bit numbers are strings; every field of an answer is present. A method is
// named by its last word: "GetStats".
//
// Threads:   any; calls wait in the caller's thread.
// Limits:    requests of kRequestBytesMax bytes of JSON.
// Errors:    kNotFound: no such method; kInvalidArgument: no JSON of its request, with protobuf's own words; else what
//            the service answered.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace google::protobuf {
class MethodDescriptor;
class ServiceDescriptor;
}  // namespace google::protobuf

namespace grpc {
class Channel;
}  // namespace grpc

namespace evenkeel::controller {

class Transcoder {
 public:
  static constexpr size_t kRequestBytesMax = 64 << 20;

  // `metadata` of every call goes with it, lower-case names.
  using Metadata = std::map<std::string, std::string>;

  // `service`: its full name, "evenkeel.v1.Control". Requires: its code is linked into this process.
  Transcoder(std::shared_ptr<grpc::Channel> channel, const std::string& service);

  bool IsStream(const std::string& method) const;
  bool Has(const std::string& method) const { return Find(method) != nullptr; }

  // Requires: Has, not IsStream. The answer as JSON.
  absl::StatusOr<std::string> Call(const std::string& method, const std::string& json, const Metadata& metadata,
                                   absl::Duration deadline) const;

  // A call whose answers come one after the other. Ended by its destructor where it has not ended by itself.
  class Stream {
   public:
    virtual ~Stream() = default;
    // The next message as JSON; none: the service ended the stream well. While none comes `idle` is asked every
    // kIdlePeriod whether to go on; kCancelled: it said no. After none, or an error, it is not to be called again.
    virtual absl::StatusOr<std::optional<std::string>> Next(const std::function<bool()>& idle) = 0;
  };
  static constexpr absl::Duration kIdlePeriod = absl::Seconds(1);
  // Requires: Has, IsStream. The call begins at once.
  absl::StatusOr<std::unique_ptr<Stream>> Open(const std::string& method, const std::string& json,
                                               const Metadata& metadata) const;

  // JSON of a request whose fields are texts, as a URL's query has them; a name given again makes a list.
  // kInvalidArgument naming a field that the request lacks, or that is no plain value.
  absl::StatusOr<std::string> RequestOf(const std::string& method,
                                        const std::multimap<std::string, std::string>& fields) const;

 private:
  const google::protobuf::MethodDescriptor* Find(const std::string& method) const;

  const std::shared_ptr<grpc::Channel> channel_;
  const google::protobuf::ServiceDescriptor* service_;
};

}  // namespace evenkeel::controller
