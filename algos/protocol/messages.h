// SPDX-License-Identifier: Apache-2.0
//
// Messages between an agent and the controller, as plain values: both cores speak only these.
//
// A stream is ordered and reliable while it lasts; when it breaks, anything not answered may or may not have arrived,
// and the next Attach tells the whole state again.
#pragma once

#include "algos/protocol/agent_messages.h"
#include "algos/protocol/controller_messages.h"
#include "algos/protocol/endpoint.h"
