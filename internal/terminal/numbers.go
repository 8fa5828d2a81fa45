package terminal

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Count formats a whole number with commas between thousands.
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var groups []string
	for len(digits) > 3 {
		groups = append([]string{digits[len(digits)-3:]}, groups...)
		digits = digits[:len(digits)-3]
	}
	return sign + strings.Join(append([]string{digits}, groups...), ",")
}

// Rate formats a rate per second: with one decimal if it is below 100, otherwise without decimals.
func Rate(perSecond float64) string {
	if math.Abs(perSecond) >= 99.95 {
		return Count(int64(math.Round(perSecond)))
	}
	return strconv.FormatFloat(perSecond, 'f', 1, 64)
}

// Duration formats a measured duration with three significant digits in a suitable unit.
func Duration(d time.Duration) string { return inUnit(d, digits) }

// Exact formats a duration in the same units as the function Duration, but does not round it.
func Exact(d time.Duration) string {
	return inUnit(d, func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) })
}

func inUnit(d time.Duration, digits func(float64) string) string {
	switch {
	case d < 0:
		return "-" + inUnit(-d, digits)
	case d == 0:
		return "0 s"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < 999500*time.Nanosecond:
		return digits(float64(d)/1e3) + " µs"
	case d < 999500*time.Microsecond:
		return digits(float64(d)/1e6) + " ms"
	}
	return digits(d.Seconds()) + " s"
}

// digits formats a number of at least 1. It prints three significant digits, or all digits before the decimal point if
// there are more.
func digits(v float64) string {
	decimals := 2
	if v >= 9.995 {
		decimals = 1
	}
	if v >= 99.95 {
		decimals = 0
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// Clock formats a duration as minutes and seconds, or hours, minutes and seconds: 0:07, 12:34, 1:02:03.
func Clock(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// Bytes formats a number of bytes in a suitable binary unit.
func Bytes(n uint64) string {
	v, unit := float64(n), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for v >= 1024 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.0f %s", v, units[unit])
}

// Bar returns a progress bar with the given number of columns. The parameter done is the filled fraction of the bar.
// Values below 0 count as 0, and values above 1 count as 1.
func Bar(done float64, width int) string {
	const eighths = 8
	partial := []string{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"}
	filled := int(math.Round(min(max(done, 0), 1) * float64(width*eighths)))
	bar := strings.Repeat("█", filled/eighths) + partial[filled%eighths]
	return bar + strings.Repeat("░", width-Width(bar))
}
