package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	yamlv2 "go.yaml.in/yaml/v2"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/internal/field"
)

var errSeveralDocuments = errors.New("there is more than one document: leave one ParkingSimulation in the file")

// toJSON converts the document in a file to JSON. It also returns the source of the document. The file must contain
// exactly one document that is not empty.
func toJSON(text []byte) (converted []byte, original *source, err error) {
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return nil, nil, errors.New("the manifest is encoded as UTF-16: save it as UTF-8")
	}
	if json.Valid(text) { // the YAML parser rejects JSON that is indented with tabs
		return wholeNumbers(text), newSource(text), nil
	}
	documents, err := splitYAML(text)
	if err != nil {
		return nil, nil, err
	}
	for _, document := range documents {
		found, err := documentToJSON(document.text)
		switch {
		case err != nil:
			return nil, nil, document.yamlError(err)
		case found == nil: // the document contains nothing but comments
		case converted != nil:
			return nil, nil, errSeveralDocuments
		default:
			converted, original = found, newSource(document.text)
		}
	}
	if converted == nil {
		return nil, nil, errors.New("the manifest is empty: " + beginning())
	}
	return converted, original, nil
}

// yamlDocument is one document of a YAML file. Lines that begin with "---" separate the documents.
type yamlDocument struct {
	text  []byte
	lines int // the number of lines before the document
}

// splitYAML splits a file in the same way as kubectl does.
func splitYAML(text []byte) ([]yamlDocument, error) {
	const separator = "---"
	documents := []yamlDocument{{}}
	number, start := 0, 0
	for line := range bytes.Lines(text) {
		number++
		current := &documents[len(documents)-1]
		rest, separates := bytes.CutPrefix(line, []byte(separator))
		if !separates {
			current.text = text[start : start+len(current.text)+len(line)]
			continue
		}
		// The error does not quote the text after the separator, because this text may hold a password.
		if rest = bytes.TrimSpace(rest); len(rest) > 0 && rest[0] != '#' {
			return nil, fmt.Errorf("not valid YAML: line %d has text after ---: begin the document on the next line, or indent the line if it is part of a multi-line value", number)
		}
		start += len(current.text) + len(line)
		documents = append(documents, yamlDocument{lines: number})
	}
	return documents, nil
}

// documentToJSON returns nil if the document is empty. It returns an error if a second document follows.
func documentToJSON(text []byte) ([]byte, error) {
	converted, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	// YAMLToJSONStrict ignores text after the first document, so a second decoder checks this text.
	decoder := yamlv2.NewDecoder(bytes.NewReader(text))
	var document, following any
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch err := decoder.Decode(&following); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, err
	case following != nil:
		return nil, errSeveralDocuments
	}
	if string(converted) == "null" {
		return nil, nil
	}
	return converted, nil
}

// wholeNumbers writes the whole numbers in a JSON text as integers: 200.0 and 2e2 become 200. kubectl does the same.
func wholeNumbers(text []byte) []byte {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var result []byte
	copied := 0
	for {
		token, err := decoder.Token()
		if err != nil { // the only possible error is io.EOF, because the text is valid JSON
			return append(result, text[copied:]...)
		}
		number, isNumber := token.(json.Number)
		if !isNumber || !strings.ContainsAny(number.String(), ".eE") {
			continue
		}
		value, err := number.Float64()
		mantissa, _, _ := strings.Cut(strings.ToLower(number.String()), "e")
		tooSmall := value == 0 && strings.ContainsAny(mantissa, "123456789") // such as 1e-999
		if err != nil || tooSmall || value != math.Trunc(value) {
			continue
		}
		end := int(decoder.InputOffset())
		integer, _ := json.Marshal(value) // no error is possible, because the number is finite
		result = append(append(result, text[copied:end-len(number)]...), integer...)
		copied = end
	}
}

var (
	// tabIndent matches a line that is indented with a tab.
	tabIndent = regexp.MustCompile(`(?m)^ *\t`)
	// yamlDirective matches a directive at the beginning of a document, such as %YAML 1.2.
	yamlDirective = regexp.MustCompile(`\A\s*%[A-Z]`)
	// conflictMarker matches a line that Git adds to a file with a merge conflict.
	conflictMarker = regexp.MustCompile(`(?m)^(<{7}|={7}|>{7})( |\r?$)`)
	// templateExpression matches the start of an expression of Helm, ERB or envsubst. It matches $NAME and $(NAME) only
	// as the whole value of a field, because Kubernetes replaces $(NAME) in commands.
	templateExpression = regexp.MustCompile(`{{|<%|\$\{\w+|(?m: ["']?\$(?:[A-Za-z_]\w*|\([A-Za-z_]\w*\))["']? *(?:$|[,}\]\r#]))`)
	// missingSpace matches a field of a ParkingSimulation without a space after its colon. The capturing group is the
	// name of the field.
	missingSpace = regexp.MustCompile(`(?m)(?:^|[{,])[ -]*(` + strings.Join(fieldNames(), "|") + `):[^\s]`)
	// duplicateKey matches the parser's error about a duplicate key. The capturing groups are the line number and
	// the quoted key.
	duplicateKey = regexp.MustCompile(`^line (\d+): key (.*) already set in map$`)
)

// yamlError converts an error of the YAML parser to one line, with line numbers of the file and advice, but without any
// possible password.
func (d yamlDocument) yamlError(err error) error {
	if errors.Is(err, errSeveralDocuments) {
		return err
	}
	padded := append(bytes.Repeat([]byte("\n"), d.lines), d.text...)
	if at := tabIndent.FindIndex(padded); at != nil {
		return fmt.Errorf("not valid YAML: line %d is indented with a tab: use spaces", lineAt(padded, at[0]))
	}
	if at := yamlDirective.FindIndex(padded); at != nil {
		return fmt.Errorf("not valid YAML: line %d is a YAML directive, which is not supported: remove it", lineAt(padded, at[1]))
	}
	if at := conflictMarker.FindIndex(padded); at != nil {
		return fmt.Errorf("not valid YAML: line %d is a marker of a merge conflict: resolve the conflict, and remove the marker", lineAt(padded, at[0]))
	}
	if path, number := newSource(d.text).unrepresentable(); number != "" {
		return field.Invalid(path, field.Raw(number), "must be a finite number, such as 10")
	}
	// The document in padded begins at the same line as in the file, so the error has the line numbers of the file.
	if _, errInFile := documentToJSON(padded); errInFile != nil {
		err = errInFile
	}
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n")
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = withoutValue(strings.TrimSpace(line))
	}
	return fmt.Errorf("not valid YAML: %s", strings.Join(lines, "; "))
}

// withoutValue rewords an error of the YAML parser so that it quotes no possible password.
func withoutValue(text string) string {
	if duplicate := duplicateKey.FindStringSubmatch(text); duplicate != nil {
		key, err := strconv.Unquote(duplicate[2])
		if err != nil || field.MayHoldPassword(key) {
			return fmt.Sprintf("line %s: a key is already set in the same object", duplicate[1])
		}
		return text
	}
	if strings.HasSuffix(text, "did not find expected <document start>") {
		return "there is text after the end of the document: leave one ParkingSimulation in the file"
	}
	for _, replacement := range []struct{ prefix, text string }{
		{"invalid map key: ", "a key must be a string"},
		{"unsupported map key ", "a key must be a string"},
		{"unknown anchor ", "a value begins with *, but is not the name of an anchor: put the value in quotes"},
		{"anchor ", "an anchor contains itself"},
		{"cannot decode ", "a value does not have the type of its tag: put the value in quotes, without a tag"},
	} {
		if strings.HasPrefix(text, replacement.prefix) {
			return replacement.text
		}
	}
	return text
}

// withUnrendered advises rendering the manifest if it contains a template expression.
func withUnrendered(err error, manifest []byte) error {
	at := templateExpression.FindIndex(manifest)
	if at == nil {
		return err
	}
	expression := string(manifest[at[0]:at[1]])
	switch {
	case expression == "{{":
		expression = "{{ }}"
	case expression == "<%":
		expression = "<% %>"
	case strings.HasPrefix(expression, "${"):
		expression += "}" // omit the default value in ${NAME:-value}, which may be a password
	case strings.Contains(expression, "$("):
		expression = "$(…)"
	default: // omit the text after $, which may be a password
		expression = "$…"
	}
	return fmt.Errorf("%w; line %d has the template expression %s: render the manifest first, for example with \"helm template\" or \"envsubst\"",
		err, lineAt(manifest, at[0]), expression)
}

// withMissingSpace adds to err the line number of a field that has no space after its colon.
func withMissingSpace(err error, manifest []byte) error {
	groups := missingSpace.FindSubmatchIndex(manifest)
	if groups == nil || json.Valid(manifest) {
		return err
	}
	return fmt.Errorf("%w; line %d has no space after %q: write a space before the value", err, lineAt(manifest, groups[2]), string(manifest[groups[2]:groups[3]])+":")
}

// fieldNames returns the names of the fields in which a missing space after the colon is detected.
func fieldNames() []string {
	return append(slices.Sorted(maps.Keys(owners())), "apiVersion", "kind", "metadata", "spec")
}

var (
	// unusualCharacter finds typographic spaces, quotation marks and dashes outside of comments.
	unusualCharacter = regexp.MustCompile(`(?m)^[^#\n]*?([\x{a0}\x{200b}-\x{200d}\x{2060}\x{feff}\x{2018}\x{2019}\x{201c}\x{201d}\x{2010}-\x{2015}\x{2212}])`)
	dash             = regexp.MustCompile(`[\x{2010}-\x{2015}\x{2212}]`)
	// jsonComment finds a comment at the beginning of a line, or after a comma, an opening brace or an opening bracket.
	jsonComment = regexp.MustCompile(`(?m)^\s*(//|/\*)|[,{\[]\s*(//|/\*)`)
)

// withUnusualCharacters adds a likely cause to err: a comment in JSON, an invisible character, or a typographic
// quotation mark or dash.
func withUnusualCharacters(err error, manifest []byte) error {
	manifest = bytes.TrimPrefix(manifest, []byte("\xef\xbb\xbf")) // a byte order mark is allowed
	if at := jsonComment.FindIndex(manifest); at != nil && bytes.HasPrefix(bytes.TrimSpace(manifest), []byte("{")) {
		return fmt.Errorf("%w; line %d has a comment, which JSON does not allow: remove it", err, lineAt(manifest, at[1]))
	}
	groups := unusualCharacter.FindSubmatchIndex(manifest)
	if groups == nil {
		return err
	}
	character, _ := utf8.DecodeRune(manifest[groups[2]:])
	line := lineAt(manifest, groups[2])
	if dash.MatchString(string(character)) {
		return fmt.Errorf("%w; line %d has the dash %c: write a hyphen (-)", err, line, character)
	}
	if unicode.IsPrint(character) {
		return fmt.Errorf("%w; line %d has the typographic quotation mark %c: write \" or '", err, line, character)
	}
	return fmt.Errorf("%w; line %d has the invisible character %U: remove it, or write a space", err, line, character)
}

// lineAt returns the number of the line at the given offset. Lines are numbered from 1.
func lineAt(text []byte, offset int) int { return 1 + bytes.Count(text[:offset], []byte("\n")) }
