package push

import (
	"slices"
	"strings"
)

// A variable is only text, until a program takes it for the name of something to run,
// to load or to speak to. A rule's author chooses the names, and a stranger the text
// for those that a rule fills with a value of the push; so such a text goes into no
// name that programs are known to look at.

// steering are such variables, by their whole names in capitals.
var steering = []string{
	// shells, and what starts with them
	"ENV", "IFS", "PROMPT_COMMAND", "SHELL", "SHELLOPTS", "BASHOPTS", "BASH_ENV", "COMSPEC", "PATHEXT", "COR_PROFILER",
	// where settings are read
	"HOME", "USERPROFILE", "PWD", "OLDPWD", "TMP", "TEMP", "TMPDIR", "ZDOTDIR", "KUBECONFIG", "WGETRC", "PHPRC", "INPUTRC",
	"NETRC",
	"EDITOR", "VISUAL", "PAGER", "BROWSER", "LESSOPEN", "LESSCLOSE", "MANPAGER", // what other programs start
	"HOSTALIASES", "LOCALDOMAIN", "TERMINFO", "TERMCAP", "TZ", "TZDIR", "NLSPATH", "LOCPATH", // the C library's files
	"CC", "CXX", "CPP", "LD", "AR", "AS", "MAKE", "MAKEFILES", "RUSTC", "RUSTC_WRAPPER", "RUSTFLAGS", // build tools
	"MASTER_ADDR", "WORLD_SIZE", "RANK", // whom a job on several nodes trusts
}

// steeringPrefixes are families of such variables, in capitals.
var steeringPrefixes = []string{
	"LD_", "DYLD_", "_RLD_", "GLIBC_", "GCONV_", "MALLOC_", "RES_", // loaders and the C library
	"BASH_", "PS0", "PS1", "PS2", "PS3", "PS4", "XDG_", "DSVM_",
	"GIT_", "SSH_", "GPG_", "CURL_", "SSL_", "OPENSSL_", "DOCKER_", "AZURE_", "AWS_", "GOOGLE_", "ARM_",
	"PYTHON", "IPYTHON", "JUPYTER", "PIP_", "CONDA_", "MAMBA_", "UV_", "POETRY_", "VIRTUAL_ENV",
	"PERL5", "PERL_", "RUBY", "GEM_", "BUNDLE_", "NODE_", "NPM_", "YARN_", "JAVA_", "JDK_", "_JAVA_", "MAVEN_", "GRADLE_", "SBT_",
	"R_", "JULIA_", "LUA_", "PHP_", "ERL_", "DOTNET_", "CORECLR_", "COMPLUS_", "NUGET_", "CARGO_", "GOROOT", "GOPROXY", "GOFLAGS",
	"GOENV", "CMAKE_",
	"CUDA_", "NVIDIA_", "NCCL_", "OMPI_", "PMIX_", "PMI_", "UCX_", "FI_", "TORCH_", "PYTORCH_", "TF_", "XLA_", "HF_", "SLURM_",
}

// steeringSuffixes are the ends of names that say what they are for: a list of places
// to look in, options of a program, a server in between.
var steeringSuffixes = []string{"PATH", "_HOME", "_OPTIONS", "OPTS", "OPT", "FLAGS", "_PROXY", "_PRELOAD", "_CONFIG", "_CONF",
	"_RC", "_CA_BUNDLE", "_COMMAND", "_SHELL", "_EDITOR", "_PAGER"}

// Steers reports whether programs take a variable of this name for what they are to
// run, to load or to speak to. Letter case does not matter: to Windows it does not,
// and http_proxy is read in small letters.
func Steers(name string) bool {
	name = strings.ToUpper(name)
	begins := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	ends := func(suffix string) bool { return strings.HasSuffix(name, suffix) }
	return slices.Contains(steering, name) || slices.ContainsFunc(steeringPrefixes, begins) || slices.ContainsFunc(steeringSuffixes, ends)
}
