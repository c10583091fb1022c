package monitor

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics counts what a key server does. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	received *prometheus.CounterVec
	sent     *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
	store    *prometheus.HistogramVec
	failures *prometheus.CounterVec
}

// New makes metrics with a registry of their own; version is that of the program.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudmls_requests_total", Help: "Requests answered, by route and status."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cloudmls_request_seconds", Help: "Time from a request's header to the end of its answer; long-polls aside.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"route"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudmls_received_bytes_total", Help: "Octets of request bodies that were read."}, []string{"route"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudmls_sent_bytes_total", Help: "Octets of answers' bodies."}, []string{"route"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cloudmls_requests_in_flight", Help: "Requests under way; kind wait are long-polls."}, []string{"kind"}),
		store: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cloudmls_store_transaction_seconds", Help: "Time of the store's transactions, waiting for their turn included.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}}, []string{"kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudmls_store_failures_total", Help: "Transactions that the store could not carry out; refusals by a rule are none."}, []string{"kind"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "cloudmls_build_info", Help: "Always 1; the version is in the label.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.seconds, m.received, m.sent, m.inFlight, m.store, m.failures, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, kind := range []string{"wait", "other"} {
		m.inFlight.WithLabelValues(kind)
	}
	for _, kind := range []string{"view", "update"} {
		m.failures.WithLabelValues(kind)
	}
	return m
}

// Gauge adds a figure that is asked for whenever the metrics are read.
func (m *Metrics) Gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// Expose answers with the metrics.
func (m *Metrics) Expose() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Count counts the requests to a chi router by the pattern of their route:
// paths hold account ids, and strangers make up others without end.
func (m *Metrics) Count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		kind := "other"
		if r.URL.Query().Has("wait") {
			kind = "wait"
		}
		gauge := m.inFlight.WithLabelValues(kind)
		gauge.Inc()
		defer gauge.Dec()
		body := &countingBody{ReadCloser: r.Body}
		if r.Body != nil {
			r.Body = body
		}
		out := &countingWriter{ResponseWriter: w}
		r, pattern := withPattern(r)
		defer func() {
			route := method(r.Method) + " " + pattern()
			m.requests.WithLabelValues(route, strconv.Itoa(out.code())).Inc()
			m.received.WithLabelValues(route).Add(float64(body.n))
			m.sent.WithLabelValues(route).Add(float64(out.n))
			if kind != "wait" {
				m.seconds.WithLabelValues(route).Observe(time.Since(start).Seconds())
			}
		}()
		next.ServeHTTP(out, r)
	})
}

// withPattern lets the router write the pattern that it finds where it can be
// read afterwards.
func withPattern(r *http.Request) (*http.Request, func() string) {
	c := chi.NewRouteContext()
	r = r.WithContext(contextWithRoute(r.Context(), c))
	return r, func() string {
		if p := c.RoutePattern(); p != "" && p != "/" {
			return p
		}
		return "unknown"
	}
}

// method keeps a made-up method from becoming a time series.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "OTHER"
}
