// mkdb DIR FILE…: makes a vulnerability database of Trivy's form (trivy.db and metadata.json) in DIR from YAML.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	fixtures "github.com/aquasecurity/bolt-fixtures"
	"github.com/aquasecurity/trivy-db/pkg/metadata"
)

// schema is the version of the database's form that Trivy reads
const schema = 2

func run(dir string, files []string) error {
	loader, err := fixtures.New(filepath.Join(dir, "trivy.db"), files)
	if err != nil {
		return err
	}
	if err := loader.Load(); err != nil {
		return err
	}
	if err := loader.Close(); err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	return metadata.NewClient(dir).Update(metadata.Metadata{
		Version:      schema,
		UpdatedAt:    now,
		NextUpdate:   now.Add(24 * time.Hour),
		DownloadedAt: now,
	})
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: mkdb DIR FILE…")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "mkdb:", err)
		os.Exit(1)
	}
}
