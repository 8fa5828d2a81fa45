package report

import (
	"encoding/json"
)

// redacted is displayed instead of the value of an environment variable.
const redacted = "(redacted)"

// ManifestOf returns the fields of a manifest that Environment.Manifest needs, or nil if v is not a manifest. It
// redacts the values of environment variables, which may be secrets.
func ManifestOf(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var m struct {
		APIVersion string `json:"apiVersion,omitempty"`
		Kind       string `json:"kind,omitempty"`
		Metadata   struct {
			Name      string `json:"name,omitempty"`
			Namespace string `json:"namespace,omitempty"`
		} `json:"metadata"`
		Spec map[string]any `json:"spec"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil
	}
	redact(m.Spec)
	text, err = json.Marshal(m)
	if err != nil {
		return nil
	}
	return text
}

// redact replaces the values of all environment variables in a JSON value.
func redact(value any) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			redact(element)
		}
	case map[string]any:
		if variables, ok := v["env"].([]any); ok {
			for _, variable := range variables {
				if fields, ok := variable.(map[string]any); ok && fields["value"] != nil {
					fields["value"] = redacted
				}
			}
		}
		for _, element := range v {
			redact(element)
		}
	}
}
