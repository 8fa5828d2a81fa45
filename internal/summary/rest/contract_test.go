package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// contract checks that requests and responses match the OpenAPI document that the API serves.
type contract struct {
	document map[string]any

	mu sync.Mutex
	// The field met contains the kinds of responses that the API has sent in the test, such as "GET /v1/stats 200".
	met map[string]bool
}

func newContract(tb testing.TB) *contract {
	tb.Helper()
	c := &contract{met: map[string]bool{}}
	if err := json.Unmarshal(document, &c.document); err != nil {
		tb.Fatalf("openapi.json: %v", err)
	}
	return c
}

// wrap returns a handler that calls next. It fails the test if the request or the response does not match the OpenAPI
// document.
func (c *contract) wrap(tb testing.TB, next http.Handler) http.Handler {
	tb.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := httptest.NewRecorder()
		next.ServeHTTP(recorder, r)
		answer := recorder.Result()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			tb.Error(err)
		}
		if err := c.check(r, answer, body); err != nil {
			tb.Errorf("%s %s %d is not as documented: %v\n%s", r.Method, r.URL, answer.StatusCode, err, body)
		}
		maps.Copy(w.Header(), answer.Header)
		w.WriteHeader(answer.StatusCode)
		_, _ = w.Write(body)
	})
}

// check compares a response with the OpenAPI document. The document must describe a response with this status for the
// path and method of the request.
func (c *contract) check(r *http.Request, answer *http.Response, body []byte) error {
	path := c.pathOf(r.URL.EscapedPath())
	if path == "" {
		if answer.StatusCode != http.StatusNotFound {
			return fmt.Errorf("the path is not documented")
		}
		return nil
	}
	operation, ok := c.at("paths", path, strings.ToLower(strings.Replace(r.Method, "HEAD", "GET", 1))).(map[string]any)
	if !ok {
		if answer.StatusCode != http.StatusMethodNotAllowed {
			return fmt.Errorf("the method is not documented")
		}
		operation, _ = c.at("paths", path, "get").(map[string]any)
	}
	documented, ok := operation["responses"].(map[string]any)[fmt.Sprint(answer.StatusCode)].(map[string]any)
	if !ok {
		return fmt.Errorf("the status is not documented")
	}
	c.mu.Lock()
	c.met[fmt.Sprintf("%s %s %d", r.Method, path, answer.StatusCode)] = true
	c.mu.Unlock()
	return c.checkAnswer(c.resolve(documented), answer, body)
}

// pathOf returns the path template in the OpenAPI document that matches the path of a request.
func (c *contract) pathOf(path string) string {
	for _, template := range c.paths() {
		pattern := regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), `[^/]+`)
		if regexp.MustCompile("^" + pattern + "$").MatchString(path) {
			return template
		}
	}
	return ""
}

// paths returns the path templates in the OpenAPI document, except those of the live page.
func (c *contract) paths() []string {
	var own []string
	paths, _ := c.document["paths"].(map[string]any)
	for path := range paths {
		if tags, _ := c.at("paths", path, "get", "tags").([]any); !slices.Contains(tags, any("live")) {
			own = append(own, path)
		}
	}
	slices.Sort(own)
	return own
}

func (c *contract) checkAnswer(documented map[string]any, answer *http.Response, body []byte) error {
	headers, _ := documented["headers"].(map[string]any)
	for name := range headers {
		if answer.Header.Get(name) == "" {
			return fmt.Errorf("header %s is missing", name)
		}
	}
	mediaType, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	content, ok := documented["content"].(map[string]any)[mediaType].(map[string]any)
	if !ok {
		return fmt.Errorf("content type %s is not documented", mediaType)
	}
	schema, _ := content["schema"].(map[string]any)
	switch mediaType {
	case "text/plain":
		return nil
	case typeNDJSON:
		result, _ := c.at("components", "schemas", "Result").(map[string]any)
		for line := range bytes.Lines(body) {
			if err := c.checkJSON(result, line); err != nil {
				return err
			}
		}
		return nil
	}
	return c.checkJSON(schema, body)
}

func (c *contract) checkJSON(schema map[string]any, body []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return err
	}
	return c.validate(schema, value, "$")
}

// validate checks a value against a JSON schema. It supports only the keywords that the OpenAPI document uses.
func (c *contract) validate(schema map[string]any, value any, at string) error {
	schema = c.resolve(schema)
	for keyword := range schema {
		if !slices.Contains(knownKeywords(), keyword) {
			return fmt.Errorf("this test does not know the keyword %s", keyword)
		}
	}
	if want := schema["type"]; want != nil && !hasType(value, want.(string)) {
		return fmt.Errorf("%s is %T %v, want %v", at, value, value, want)
	}
	if options, ok := schema["enum"].([]any); ok && !slices.ContainsFunc(options, func(o any) bool { return fmt.Sprint(o) == fmt.Sprint(value) }) {
		return fmt.Errorf("%s is %v, want one of %v", at, value, options)
	}
	if want, ok := schema["const"]; ok && want != value {
		return fmt.Errorf("%s is %v, want %v", at, value, want)
	}
	switch v := value.(type) {
	case string:
		return validateString(schema, v, at)
	case json.Number:
		return validateNumber(schema, v, at)
	case []any:
		return c.validateArray(schema, v, at)
	case map[string]any:
		return c.validateObject(schema, v, at)
	}
	return nil
}

func knownKeywords() []string {
	return []string{
		"type", "enum", "const", "format", "minLength", "maxLength", "minimum", "maximum", "maxItems", "items",
		"required", "properties", "additionalProperties",
		"description", "examples", "default", "contentMediaType",
	}
}

func hasType(value any, want string) bool {
	switch v := value.(type) {
	case string:
		return want == "string"
	case json.Number:
		_, err := v.Int64()
		return want == "number" || want == "integer" && err == nil
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return false
}

func validateString(schema map[string]any, value, at string) error {
	if schema["format"] == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, value); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	if n, ok := schema["minLength"].(float64); ok && len(value) < int(n) {
		return fmt.Errorf("%s is shorter than %v", at, n)
	}
	if n, ok := schema["maxLength"].(float64); ok && len(value) > int(n) {
		return fmt.Errorf("%s is longer than %v", at, n)
	}
	return nil
}

func validateNumber(schema map[string]any, value json.Number, at string) error {
	f, err := value.Float64()
	if err != nil {
		return err
	}
	if n, ok := schema["minimum"].(float64); ok && f < n {
		return fmt.Errorf("%s is less than %v", at, n)
	}
	if n, ok := schema["maximum"].(float64); ok && f > n {
		return fmt.Errorf("%s is more than %v", at, n)
	}
	return nil
}

func (c *contract) validateArray(schema map[string]any, value []any, at string) error {
	if n, ok := schema["maxItems"].(float64); ok && len(value) > int(n) {
		return fmt.Errorf("%s has more than %v items", at, n)
	}
	items, _ := schema["items"].(map[string]any)
	for i, item := range value {
		if err := c.validate(items, item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
			return err
		}
	}
	return nil
}

func (c *contract) validateObject(schema, value map[string]any, at string) error {
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := value[name.(string)]; !ok {
			return fmt.Errorf("%s lacks %v", at, name)
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, member := range value {
		property, ok := properties[name].(map[string]any)
		if !ok {
			if schema["additionalProperties"] == false {
				return fmt.Errorf("%s has the undocumented member %s", at, name)
			}
			continue
		}
		if err := c.validate(property, member, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

// resolve returns the schema that a $ref refers to.
func (c *contract) resolve(node map[string]any) map[string]any {
	reference, ok := node["$ref"].(string)
	if !ok {
		return node
	}
	target, _ := c.at(strings.Split(strings.TrimPrefix(reference, "#/"), "/")...).(map[string]any)
	return target
}

// at returns the value at the given path of keys in the OpenAPI document, or nil if it does not exist.
func (c *contract) at(path ...string) any {
	var node any = c.document
	for _, name := range path {
		object, ok := node.(map[string]any)
		if !ok {
			return nil
		}
		node = object[name]
	}
	return node
}

// answers returns every documented response of the paths under /v1, in the form "GET /v1/stats 200".
func (c *contract) answers() []string {
	var all []string
	for _, path := range c.paths() {
		operations, _ := c.at("paths", path).(map[string]any)
		for method, operation := range operations {
			responses, _ := operation.(map[string]any)["responses"].(map[string]any)
			for status := range responses {
				all = append(all, strings.ToUpper(method)+" "+path+" "+status)
			}
		}
	}
	slices.Sort(all)
	return all
}
