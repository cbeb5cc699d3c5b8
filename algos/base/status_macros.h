// SPDX-License-Identifier: Apache-2.0
//
// EVENKEEL_RETURN_IF_ERROR, EVENKEEL_ASSIGN_OR_RETURN: pass an error on in one line.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define EVENKEEL_RETURN_IF_ERROR(expression)                                                        \
  do {                                                                                              \
    if (absl::Status evenkeel_status = (expression); !evenkeel_status.ok()) return evenkeel_status; \
  } while (false)

#define EVENKEEL_CONCAT_INNER(a, b) a##b
#define EVENKEEL_CONCAT(a, b) EVENKEEL_CONCAT_INNER(a, b)
#define EVENKEEL_ASSIGN_OR_RETURN(target, expression) \
  EVENKEEL_ASSIGN_OR_RETURN_INNER(EVENKEEL_CONCAT(evenkeel_result_, __LINE__), target, expression)
#define EVENKEEL_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                       \
  if (!result.ok()) return std::move(result).status();              \
  target = *std::move(result)
