// SPDX-License-Identifier: Apache-2.0
//
// Page: the files of the web page, part of the controller's binary.
//
// They are built from src/ by `npm ci && npm run build` (deploy/page.sh) and kept in dist/, so that building the
// controller needs neither npm nor network.
#pragma once

#include <span>
#include <string_view>

namespace evenkeel::controller {

struct PageFile {
  std::string_view name;  // "index.html"
  std::string_view type;  // of its content
  std::string_view bytes;
};

std::span<const PageFile> PageFiles();

}  // namespace evenkeel::controller
