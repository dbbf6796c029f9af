import { usage } from "../base/errors.ts";
import { write } from "../base/output.ts";
import { define } from "../base/program.ts";

const SCRIPTS: Record<string, string> = {
  bash: `_bhatti() {
  local IFS=$'\\n'
  COMPREPLY=($(bhatti __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _bhatti bhatti
`,
  zsh: `#compdef bhatti
_bhatti() {
  local -a found
  found=(\${(f)"$(bhatti __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( \${#found} )); then compadd -a found; else _files; fi
}
compdef _bhatti bhatti
`,
  fish: `function __bhatti_complete
  set -l words (commandline -opc) (commandline -ct)
  bhatti __complete -- $words[2..-1] 2>/dev/null
end
complete -c bhatti -a '(__bhatti_complete)'
`,
};

export const command = () =>
  define(
    "completion <shell>",
    "Print the completion script of a shell (bash, zsh, fish). Completes commands, flags, sandboxes and snapshots.",
    [
      "source <(bhatti completion bash)                     # this shell",
      "bhatti completion bash > ~/.local/share/bash-completion/completions/bhatti",
      "bhatti completion zsh > ~/.zfunc/_bhatti             # with ~/.zfunc in fpath",
      "bhatti completion fish > ~/.config/fish/completions/bhatti.fish",
    ],
  ).action((shell: string) => {
    const script = SCRIPTS[shell];
    if (script === undefined)
      throw usage(`no completion for "${shell}"`, "there is one for bash, zsh and fish");
    write(1, script);
  });
