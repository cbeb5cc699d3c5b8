// SPDX-License-Identifier: Apache-2.0
#include "cli/files/trtllm_map.h"

#include <yaml.h>

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "algos/base/status_macros.h"
#include "cli/files/limits.h"

namespace evenkeel::cli {

namespace {

struct Event {
  yaml_event_type_t type = YAML_NO_EVENT;
  std::string text = {};   // of a scalar
  std::string place = {};  // "line 3, column 5"
};

// libyaml's events, one at a time, without what this form has no use for.
class Events {
 public:
  explicit Events(std::string_view bytes) {
    ready_ = yaml_parser_initialize(&parser_) == 1;
    if (!ready_) return;
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  }
  ~Events() {
    if (ready_) yaml_parser_delete(&parser_);
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  absl::StatusOr<Event> Next() {
    yaml_event_t raw;
    if (!ready_) return absl::ResourceExhaustedError("yaml: no memory");
    if (yaml_parser_parse(&parser_, &raw) == 0) {
      return Bad(PlaceOf(parser_.problem_mark), parser_.problem != nullptr ? parser_.problem : "not YAML");
    }
    Event event{.type = raw.type, .place = PlaceOf(raw.start_mark)};
    const unsigned char *anchor = nullptr, *tag = nullptr;
    if (raw.type == YAML_SCALAR_EVENT) {
      event.text.assign(reinterpret_cast<const char*>(raw.data.scalar.value), raw.data.scalar.length);
      anchor = raw.data.scalar.anchor, tag = raw.data.scalar.tag;
    } else if (raw.type == YAML_SEQUENCE_START_EVENT) {
      anchor = raw.data.sequence_start.anchor, tag = raw.data.sequence_start.tag;
    } else if (raw.type == YAML_MAPPING_START_EVENT) {
      anchor = raw.data.mapping_start.anchor, tag = raw.data.mapping_start.tag;
    }
    const bool plain = anchor == nullptr && tag == nullptr && raw.type != YAML_ALIAS_EVENT;
    yaml_event_delete(&raw);
    if (!plain) return Bad(event.place, "anchors, aliases and tags have no place here");
    return event;
  }

  // The next event, which must be of this type.
  absl::StatusOr<Event> Expect(yaml_event_type_t type, const char* wanted) {
    EVENKEEL_ASSIGN_OR_RETURN(Event event, Next());
    if (event.type != type) return Bad(event.place, absl::StrCat("wanted is ", wanted));
    return event;
  }

  static absl::Status Bad(const std::string& place, absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("yaml: ", place, ": ", what));
  }

 private:
  static std::string PlaceOf(const yaml_mark_t& mark) {
    return absl::StrCat("line ", mark.line + 1, ", column ", mark.column + 1);
  }

  yaml_parser_t parser_;
  bool ready_ = false;
};

absl::StatusOr<int> IntegerOf(const Event& event, const std::string& what, int low, int high) {
  int value = 0;
  if (event.type != YAML_SCALAR_EVENT || !absl::SimpleAtoi(event.text, &value) || value < low || value > high) {
    return Events::Bad(event.place, absl::StrCat(what, " must be an integer from ", low, " to ", high,
                                                 event.type == YAML_SCALAR_EVENT ? ", not '" : "",
                                                 event.text.substr(0, 40), event.type == YAML_SCALAR_EVENT ? "'" : ""));
  }
  return value;
}

absl::StatusOr<std::vector<int>> ReadSlots(Events& events, int layer) {
  const std::string what = absl::StrCat("a slot of layer ", layer);
  EVENKEEL_RETURN_IF_ERROR(events.Expect(YAML_SEQUENCE_START_EVENT, "a list of experts").status());
  std::vector<int> slots;
  while (true) {
    EVENKEEL_ASSIGN_OR_RETURN(const Event event, events.Next());
    if (event.type == YAML_SEQUENCE_END_EVENT) return slots;
    EVENKEEL_ASSIGN_OR_RETURN(const int expert, IntegerOf(event, what, 0, kExpertsMax - 1));
    slots.push_back(expert);
  }
}

using Assignments = std::map<int, std::vector<int>>;

absl::StatusOr<Assignments> ReadAssignments(Events& events) {
  EVENKEEL_RETURN_IF_ERROR(events.Expect(YAML_MAPPING_START_EVENT, "a mapping from layers to lists").status());
  Assignments assignments;
  while (true) {
    EVENKEEL_ASSIGN_OR_RETURN(const Event key, events.Next());
    if (key.type == YAML_MAPPING_END_EVENT) return assignments;
    EVENKEEL_ASSIGN_OR_RETURN(const int layer, IntegerOf(key, "a layer", 0, 2 * kLayersMax));
    if (assignments.contains(layer)) return Events::Bad(key.place, absl::StrCat("layer ", layer, " is given twice"));
    EVENKEEL_ASSIGN_OR_RETURN(std::vector<int> slots, ReadSlots(events, layer));
    assignments.emplace(layer, std::move(slots));
  }
}

struct Document {
  std::optional<int> num_slots = {};
  std::optional<int> layer_updates_per_iter = {};
  std::optional<Assignments> assignments = {};
};

absl::StatusOr<Document> ReadDocument(Events& events) {
  EVENKEEL_RETURN_IF_ERROR(events.Expect(YAML_STREAM_START_EVENT, "a stream").status());
  EVENKEEL_RETURN_IF_ERROR(events.Expect(YAML_DOCUMENT_START_EVENT, "a document").status());
  EVENKEEL_RETURN_IF_ERROR(events.Expect(YAML_MAPPING_START_EVENT, "a mapping with num_slots").status());
  Document document;
  while (true) {
    EVENKEEL_ASSIGN_OR_RETURN(const Event key, events.Next());
    if (key.type == YAML_MAPPING_END_EVENT) break;
    if (key.text == "initial_global_assignments" && !document.assignments) {
      EVENKEEL_ASSIGN_OR_RETURN(document.assignments, ReadAssignments(events));
      continue;
    }
    std::optional<int>* number = key.text == "num_slots"                ? &document.num_slots
                                 : key.text == "layer_updates_per_iter" ? &document.layer_updates_per_iter
                                                                        : nullptr;
    if (number == nullptr && key.text != "initial_global_assignments") {
      return Events::Bad(key.place, absl::StrCat("unknown key '", key.text.substr(0, 60), "'"));
    }
    if (number == nullptr || number->has_value()) {
      return Events::Bad(key.place, absl::StrCat(key.text, " is given twice"));
    }
    EVENKEEL_ASSIGN_OR_RETURN(const Event value, events.Next());
    EVENKEEL_ASSIGN_OR_RETURN(*number, IntegerOf(value, key.text, 0, kSlotsMax));
  }
  EVENKEEL_RETURN_IF_ERROR(events.Expect(YAML_DOCUMENT_END_EVENT, "the end of the document").status());
  EVENKEEL_RETURN_IF_ERROR(events.Expect(YAML_STREAM_END_EVENT, "one document alone").status());
  return document;
}

}  // namespace

absl::StatusOr<MapFile> ParseTrtllmMap(std::string_view bytes, const MapHints& hints) {
  if (bytes.size() > kYamlBytesMax) return Events::Bad("whole", absl::StrCat("more than ", kYamlBytesMax, " bytes"));
  Events events(bytes);
  EVENKEEL_ASSIGN_OR_RETURN(Document document, ReadDocument(events));
  if (!document.num_slots) return absl::InvalidArgumentError("yaml: there is no num_slots");
  if (!document.assignments || document.assignments->empty()) {
    return absl::InvalidArgumentError("yaml: there are no initial_global_assignments, so it is no map");
  }
  const int first = document.assignments->begin()->first;
  std::vector<std::vector<int>> layers;
  for (auto& [layer, slots] : *document.assignments) {
    if (static_cast<size_t>(layer - first) != layers.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("yaml: layer ", layer, " does not follow layer ", first + static_cast<int>(layers.size()) - 1));
    }
    if (slots.size() != static_cast<size_t>(*document.num_slots)) {
      return absl::InvalidArgumentError(
          absl::StrCat("yaml: layer ", layer, " has ", slots.size(), " slots; num_slots is ", *document.num_slots));
    }
    layers.push_back(std::move(slots));
  }
  return MapOf(layers, {.num_ranks = hints.num_ranks, .num_experts = hints.num_experts, .first_layer = first});
}

absl::StatusOr<std::string> RenderTrtllmMap(const MapFile& map) {
  EVENKEEL_RETURN_IF_ERROR(CheckComplete(map, "trtllm"));
  std::string text = absl::StrCat("num_slots: ", map.shape.num_slots(), "\ninitial_global_assignments:\n");
  for (size_t layer = 0; layer < map.layers.size(); ++layer) {
    absl::StrAppend(&text, "  ", static_cast<size_t>(map.first_layer) + layer, ": [",
                    absl::StrJoin(SlotsOf(map.layers[layer].placement), ", "), "]\n");
  }
  return text + "layer_updates_per_iter: 0\n";
}

}  // namespace evenkeel::cli
