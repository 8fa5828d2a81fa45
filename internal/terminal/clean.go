package terminal

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Clean makes text from files, servers and clusters safe to print on a terminal. It replaces line breaks and tabs with
// spaces, and escapes other invisible characters.
func Clean(text string) string {
	return escape(strings.NewReplacer("\r\n", " ", "\n", " ", "\t", " ").Replace(text))
}

// CleanLines is like Clean, but keeps line breaks and tabs.
func CleanLines(text []byte) []byte {
	return []byte(escape(string(text), '\n', '\t'))
}

// escape replaces invisible characters with the escape sequences of JSON, so a JSON document still decodes to the same
// value. It does not replace the characters in the parameter keep.
func escape(text string, keep ...rune) string {
	isBad := func(c rune) bool { return !unicode.IsGraphic(c) && !slices.Contains(keep, c) }
	if utf8.ValidString(text) && strings.IndexFunc(text, isBad) < 0 {
		return text
	}
	var b strings.Builder
	for _, c := range text {
		switch {
		case !isBad(c):
			b.WriteRune(c) // an invalid byte becomes U+FFFD, so the result is valid UTF-8
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String()
}

// Cleaned returns a deep copy of a value, with Clean applied to each string. The copy shares unexported fields, byte
// slices and functions with the original.
func Cleaned[T any](value T) T {
	v := reflect.ValueOf(&value).Elem()
	v.Set(cleaned(v))
	return value
}

func cleaned(v reflect.Value) reflect.Value {
	copied := reflect.New(v.Type()).Elem()
	copied.Set(v)
	switch v.Kind() {
	case reflect.String:
		copied.SetString(Clean(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			copied.Set(reflect.New(v.Type().Elem()))
			copied.Elem().Set(cleaned(v.Elem()))
		}
	case reflect.Interface:
		if !v.IsNil() {
			copied.Set(cleaned(v.Elem()))
		}
	case reflect.Struct, reflect.Slice, reflect.Array, reflect.Map:
		cleanParts(copied, v)
	default: // values of other kinds contain no text
	}
	return copied
}

func cleanParts(copied, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				copied.Field(i).Set(cleaned(v.Field(i)))
			}
		}
	case reflect.Map:
		if v.IsNil() {
			return
		}
		copied.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for entry := v.MapRange(); entry.Next(); {
			copied.SetMapIndex(cleaned(entry.Key()), cleaned(entry.Value()))
		}
	default:
		if v.Type().Elem().Kind() == reflect.Uint8 || v.Kind() == reflect.Slice && v.IsNil() {
			return
		}
		if v.Kind() == reflect.Slice {
			copied.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		}
		for i := range v.Len() {
			copied.Index(i).Set(cleaned(v.Index(i)))
		}
	}
}

// CleanWriter returns a writer that cleans its input with CleanLines and writes the result to w. Do not split a UTF-8
// character between two calls of Write.
func CleanWriter(w io.Writer) io.Writer { return cleanWriter{w} }

type cleanWriter struct{ io.Writer }

func (w cleanWriter) Write(text []byte) (int, error) {
	if _, err := w.Writer.Write(CleanLines(text)); err != nil {
		return 0, err
	}
	return len(text), nil
}
