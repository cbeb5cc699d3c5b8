// SPDX-License-Identifier: Apache-2.0
//
// SnapshotReader: reads experts out of the snapshot that this host sees.
//
// The address of a "snapshot" endpoint is the folder that was configured. Of several files with the expert the newest
// is taken that is whole; one whose bytes did not match is passed over from then on, until it is written anew.
//
// Threads:   one at a time: see StoreTransport.
// Errors:    besides those of SnapshotFolder: kDataLoss where the expert's bytes do not match its fingerprint.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"

#include "agent/stores/store_identity.h"
#include "agent/stores/store_transport.h"
#include "agent/transport.h"

namespace evenkeel::agent {

// For StoreTransport::Options::open.
std::function<absl::StatusOr<std::unique_ptr<StoreReader>>(const TransferRequest&)> SnapshotOpener(
    StoreIdentity identity);

}  // namespace evenkeel::agent
