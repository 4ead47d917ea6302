// A 404 on new paths while a deployment runs: takes it for a failure in that time, and only then.
//
// Settings, all required: `path` (a prefix), `from` and `until` (RFC 3339, such as `2026-11-25T08:00:00Z`).
package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

type window struct {
	path        string
	from, until time.Time
}

// A settingError is a setting that is missing or not what it should be.
type settingError struct {
	name, expected, found string
}

func (e *settingError) Error() string {
	return fmt.Sprintf("setting `%s`: expected %s, found `%s`", e.name, e.expected, e.found)
}

func handleIf(outcome Outcome) bool {
	if configured == nil {
		w, err := readWindow()
		if err != nil {
			// The host logs what is printed, and the `on_error` of the component decides. Not by a panic: before Go
			// prints its message it sleeps, which a guest must not.
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		configured = w
	}
	now := time.Now()
	return outcome.Status == 404 &&
		!now.Before(configured.from) && now.Before(configured.until) &&
		strings.HasPrefix(PathWithQuery(), configured.path)
}

// Settings don't change while an instance lives.
var configured *window

func readWindow() (*window, error) {
	path, ok := Setting("path")
	if !ok {
		return nil, &settingError{"path", "a prefix of paths", ""}
	}
	from, err := readTime("from")
	if err != nil {
		return nil, err
	}
	until, err := readTime("until")
	if err != nil {
		return nil, err
	}
	if !from.Before(until) {
		return nil, &settingError{"until", "a time after `from`", until.Format(time.RFC3339)}
	}
	return &window{path, from, until}, nil
}

func readTime(name string) (time.Time, error) {
	text, _ := Setting(name)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, &settingError{name, "a time such as `2026-11-25T08:00:00Z`", text}
	}
	return at, nil
}
