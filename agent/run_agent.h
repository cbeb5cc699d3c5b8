// SPDX-License-Identifier: Apache-2.0
//
// RunAgent: one rank's agent from start to end: finds the rank's region, attends to it, and goes on with the next one
// when the engine is restarted.
//
// Threads:   the caller's, which waits here.
// Errors:    kInvalidArgument: a wrong option, or a region of another group or rank; kAlreadyExists: the rank has an
//            agent; kDataLoss: the region is broken; kNotFound, kFailedPrecondition: the region given by path is gone
//            or its engine has ended before.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace evenkeel::agent {

struct AgentOptions {
  std::string controller;  // host:port
  std::string group;       // as the engine named it
  int rank = -1;
  std::string region = "/dev/shm";  // a region's path, or the directory where engines make them
  std::string credentials;          // file of runtime/client_credentials.h; empty: no TLS and no token
  std::string transport;            // force this one; empty: the best for each pair
  uint64_t bytes_per_second = 0;    // bounds moves into this rank; 0: as the controller says
  std::string host_name;            // in place of this host's own identity; empty: not
  std::string fault;                // for tests: what goes wrong with transfers; empty: nothing
};

// Waits for at most that long; whether the agent is to end.
using StopWithin = std::function<bool(absl::Duration)>;

// What the process is to end with, as its --help says: a supervisor starts it again after 1 and 3 alone.
enum ExitStatus : int {
  kExitOk = 0,
  kExitFailed = 1,
  kExitWrongOption = 2,  // or a region that is of another group or rank
  kExitCopyStuck = 3,    // see daemon.h
  kExitOtherAgent = 4,   // another agent holds this rank, and goes on
};
ExitStatus ExitStatusOf(const absl::Status& status);

// OK where it was told to end, or a region given by path has come to its end.
absl::Status RunAgent(const AgentOptions& options, const StopWithin& stop_within);

}  // namespace evenkeel::agent
