// SPDX-License-Identifier: Apache-2.0
#include "controller/http/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace evenkeel::controller {

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// Families in the order in which they were first named.
class Page {
 public:
  void Gauge(const std::string& name, const std::string& help, Labels labels, double value) {
    ClientMetric& metric = Add(name, help, MetricType::Gauge, std::move(labels));
    metric.gauge.value = value;
  }
  void Counter(const std::string& name, const std::string& help, Labels labels, uint64_t value) {
    ClientMetric& metric = Add(name, help, MetricType::Counter, std::move(labels));
    metric.counter.value = static_cast<double>(value);
  }
  void Counter(const std::string& name, const std::string& help, Labels labels, absl::Duration value) {
    ClientMetric& metric = Add(name, help, MetricType::Counter, std::move(labels));
    metric.counter.value = absl::ToDoubleSeconds(value);
  }
  void Histogram(const std::string& name, const std::string& help, Labels labels, const LatencyCounts& value) {
    ClientMetric& metric = Add(name, help, MetricType::Histogram, std::move(labels));
    uint64_t below = 0;
    for (size_t i = 0; i < value.counts.size(); ++i) {
      below += value.counts[i];
      const bool last = i == LatencyCounts::kBoundsUs.size();
      const double bound =
          last ? std::numeric_limits<double>::infinity() : static_cast<double>(LatencyCounts::kBoundsUs[i]) * 1e-6;
      metric.histogram.bucket.push_back({.cumulative_count = below, .upper_bound = bound});
    }
    metric.histogram.sample_count = below;
    metric.histogram.sample_sum = absl::ToDoubleSeconds(value.sum);
  }
  const std::vector<MetricFamily>& families() const { return families_; }

 private:
  ClientMetric& Add(const std::string& name, const std::string& help, MetricType type, Labels labels) {
    const auto [found, is_new] = index_.emplace(name, families_.size());
    if (is_new) families_.push_back({name, help, type, {}});
    std::vector<ClientMetric>& metrics = families_[found->second].metric;
    metrics.emplace_back();
    metrics.back().label = std::move(labels);
    return metrics.back();
  }

  std::vector<MetricFamily> families_;
  std::map<std::string, size_t> index_;
};

void AddBalance(const GroupStatus& group, const Labels& labels, Page& page) {
  page.Gauge("evenkeel_group_imbalance_ratio",
             "Busiest rank's tokens over the mean rank's, mean over layers; 1 is even.", labels, group.imbalance_now);
  page.Gauge("evenkeel_group_imbalance_initial_ratio", "The same tokens under the default placement, shared evenly.",
             labels, group.imbalance_initial);
  page.Gauge("evenkeel_group_imbalance_predicted_ratio", "What the shares in force were chosen for.", labels,
             group.imbalance_predicted);
  page.Gauge("evenkeel_group_imbalance_gap", "1 while realised and predicted imbalance differ for long.", labels,
             group.imbalance_gap.empty() ? 0 : 1);
  double worst = 0;
  for (const LayerStatus& layer : group.layers) worst = std::max(worst, layer.imbalance_now);
  page.Gauge("evenkeel_group_imbalance_worst_layer_ratio", "Imbalance of the group's worst layer.", labels, worst);
}

void AddTotals(const GroupTotals& totals, const Labels& labels, Page& page) {
  const auto add = [&](const char* name, const char* help, uint64_t value) {
    page.Counter(absl::StrCat("evenkeel_group_", name, "_total"), help, labels, value);
  };
  add("tokens", "Tokens computed, each once for every expert it was routed to.", totals.tokens);
  add("unrouted_tokens", "Tokens whose expert had no live replica.", totals.unrouted_tokens);
  add("load_reports", "Load reports taken from agents.", totals.load_reports);
  add("shares_updates", "Publishes of the fast loop.", totals.shares_updates);
  add("maps_published", "Epochs published.", totals.publishes);
  add("maps_refused", "Maps that an agent refused.", totals.maps_refused);
  add("rollouts", "Layers brought to a new placement.", totals.rollouts);
  add("waves", "Waves begun.", totals.waves);
  add("waves_undone", "Waves given up at their deadline.", totals.waves_undone);
  add("moves", "Experts moved and verified.", totals.moves);
  add("moves_failed", "Attempts to move an expert that failed.", totals.moves_failed);
  add("moved_bytes", "Bytes of experts moved.", totals.bytes_moved);
  add("guard_undone", "Changes of the maps that made steps slower and were undone by the guard.", totals.guard_undone);
  add("fingerprint_failures", "Contents that did not match their fingerprint.", totals.fingerprint_failures);
  add("ranks_lost", "Ranks expelled.", totals.ranks_lost);
  add("experts_restored", "Experts restored that had no live replica left.", totals.experts_restored);
  const std::pair<const char*, absl::Duration> phases[] = {
      {"planning", totals.planning}, {"retiring", totals.retiring}, {"moving", totals.moving}};
  for (const auto& [phase, value] : phases) {
    Labels with = labels;
    with.push_back({"phase", phase});
    page.Counter("evenkeel_group_phase_seconds_total",
                 "Time spent planning, waiting for ranks to quiesce, and moving; summed over layers side by side.",
                 std::move(with), value);
  }
  page.Histogram("evenkeel_group_shares_latency_seconds",
                 "From the end of a window to the publish of the shares solved with it.", labels,
                 totals.shares_latency);
}

void AddDecisions(const GroupTotals& totals, const Labels& labels, Page& page) {
  const std::pair<const char*, uint64_t> decisions[] = {
      {"planned", totals.layers_planned},         {"balanced", totals.layers_balanced},
      {"steady", totals.layers_steady},           {"resting", totals.layers_resting},
      {"over_budget", totals.layers_over_budget}, {"without_gain", totals.layers_without_gain}};
  for (const auto& [decision, value] : decisions) {
    Labels with = labels;
    with.push_back({"decision", decision});
    page.Counter("evenkeel_group_layer_decisions_total", "What the slow loop decided about layers, and why not.",
                 std::move(with), value);
  }
}

void AddState(const GroupStatus& group, const Labels& labels, Page& page) {
  page.Gauge("evenkeel_group_forming", "1 until every rank has attached under this term.", labels, group.forming);
  page.Gauge("evenkeel_group_ineffective", "1 while balancing is on and something keeps it from working.", labels,
             !group.ineffective.empty());
  page.Gauge("evenkeel_group_held",
             "1 while a freeze or the guard keeps the controller from acting by itself or slows moves.", labels,
             !group.held.empty());
  page.Gauge("evenkeel_group_paused", "1 while an operator has paused the group.", labels, !group.paused_by.empty());
  page.Gauge("evenkeel_group_map_age_seconds", "Since maps were last published.", labels,
             absl::ToDoubleSeconds(group.map_age));
  page.Gauge("evenkeel_group_view_number", "Number of the newest view.", labels,
             static_cast<double>(group.view.number));
  page.Gauge("evenkeel_group_waves_blocked", "Layers whose wave waits for a rank.", labels,
             static_cast<double>(group.waves_blocked.size()));
  page.Gauge("evenkeel_group_operation_running", "1 while a rearrangement is under way.", labels,
             group.running_operation.empty() ? 0 : 1);
  page.Gauge("evenkeel_group_step_time_p99_seconds", "99th percentile of the engines' step times; 0: unknown.", labels,
             absl::ToDoubleSeconds(group.step_time_p99));
  page.Gauge("evenkeel_group_wave_deadline_seconds", "Deadline of a wave's first try.", labels,
             absl::ToDoubleSeconds(group.wave_deadline));
  int condemned = 0, redundancy = group.layers.empty() ? 0 : group.layers.front().free_redundancy;
  for (const LayerStatus& layer : group.layers) {
    condemned += layer.num_slots_condemned;
    redundancy = std::min(redundancy, layer.free_redundancy);
  }
  page.Gauge("evenkeel_group_slots_condemned", "Slots never to be used again.", labels, condemned);
  page.Gauge("evenkeel_group_free_redundancy_slots", "Usable slots beyond those required, of the poorest layer.",
             labels, redundancy);
}

void AddRanks(const GroupStatus& group, const Labels& labels, Page& page) {
  int taking_part = 0, attached = 0, behind = 0, silent = 0, suspected = 0;
  absl::Duration lag = absl::ZeroDuration();
  for (const MemberStatus& member : group.members) {
    if (member.takes_part) {
      ++taking_part;
      attached += member.attached;
      behind += member.quiesced_epoch < group.epoch;
    }
    silent += member.silent;
    suspected += member.num_suspecting > 0;
    lag = std::max(lag, member.quiescence_lag);
    if (member.member.incarnation == 0) continue;
    Labels with = labels;
    with.push_back({"rank", absl::StrCat(member.member.rank.value())});
    page.Gauge("evenkeel_rank_attached", "1 while the rank's agent is attached.", with, member.attached);
    page.Gauge("evenkeel_rank_engine_alive", "1 while the rank's engine lives, as its agent says.", with, member.alive);
    page.Counter("evenkeel_rank_steps_total", "Steps that the rank's engine ended.", with, member.num_steps);
    page.Counter("evenkeel_rank_calls_waited_total", "Calls of the engine library that waited; must stay 0.", with,
                 member.num_calls_waited);
    page.Gauge("evenkeel_rank_oldest_open_step_seconds", "How long the rank's oldest open step has been open.", with,
               absl::ToDoubleSeconds(member.oldest_open_step));
    page.Gauge("evenkeel_rank_quiescence_lag_seconds", "For how long the rank has not quiesced at newer maps.", with,
               absl::ToDoubleSeconds(member.quiescence_lag));
    page.Gauge("evenkeel_rank_suspected_by_ranks", "Ranks whose engines wait for this one.", with,
               member.num_suspecting);
  }
  page.Gauge("evenkeel_group_ranks", "Ranks of the group, without those that were lost or have left.", labels,
             taking_part);
  page.Gauge("evenkeel_group_ranks_attached", "Ranks whose agent is attached.", labels, attached);
  page.Gauge("evenkeel_group_ranks_behind", "Ranks that have not quiesced at the newest maps.", labels, behind);
  page.Gauge("evenkeel_group_ranks_silent", "Ranks whose agent, or engine in a step, said nothing for its lease.",
             labels, silent);
  page.Gauge("evenkeel_group_ranks_suspected", "Ranks that other ranks' engines wait for.", labels, suspected);
  page.Gauge("evenkeel_group_quiescence_lag_seconds", "For how long the slowest rank has not quiesced at newer maps.",
             labels, absl::ToDoubleSeconds(lag));
}

void AddLayers(const GroupStatus& group, const Labels& labels, Page& page) {
  for (const LayerStatus& layer : group.layers) {
    Labels with = labels;
    with.push_back({"layer", absl::StrCat(layer.layer.value())});
    page.Gauge("evenkeel_layer_imbalance_ratio", "Busiest rank's tokens over the mean rank's.", with,
               layer.imbalance_now);
    page.Gauge("evenkeel_layer_imbalance_predicted_ratio", "What the layer's shares in force were chosen for.", with,
               layer.imbalance_predicted);
  }
}

}  // namespace

std::string MetricsText(const MetricsSource& source) {
  Page page;
  page.Gauge("evenkeel_controller_leading", "1 while this controller leads.", {}, source.leading);
  page.Gauge("evenkeel_controller_term", "Term of this controller's leadership.", {}, source.term);
  page.Gauge("evenkeel_controller_groups", "Groups known.", {}, static_cast<double>(source.groups.size()));
  page.Counter("evenkeel_controller_store_failures_total", "Writes of the store that failed.", {},
               source.num_store_failures);
  page.Counter("evenkeel_controller_tasks_refused_total", "Tasks refused as the strand's queue was full.", {},
               source.num_tasks_refused);
  page.Histogram("evenkeel_controller_step_seconds", "How long the coordinator took for an event.", {},
                 source.step_times);
  for (const auto& [reason, count] : source.refused) {
    page.Counter("evenkeel_refused_total", "Calls refused, by the reason that the caller was told.",
                 {{"reason", reason}}, count);
  }
  for (const MetricsSource::Ended& ended : source.operations_ended) {
    page.Counter("evenkeel_group_operations_ended_total", "Operations that ended, by what caused them and how.",
                 {{"group", ended.group}, {"cause", ended.cause}, {"state", ended.state}}, ended.count);
  }
  int layers_left = kLayerSeriesMax;
  for (const GroupStatus& group : source.groups) {
    const Labels labels = {{"group", group.name}};
    AddBalance(group, labels, page);
    AddTotals(group.totals, labels, page);
    AddDecisions(group.totals, labels, page);
    AddState(group, labels, page);
    AddRanks(group, labels, page);
    if (std::ssize(group.layers) > layers_left) continue;
    layers_left -= static_cast<int>(group.layers.size());
    AddLayers(group, labels, page);
  }
  return prometheus::TextSerializer().Serialize(page.families());
}

}  // namespace evenkeel::controller
