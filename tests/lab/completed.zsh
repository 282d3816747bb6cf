# completed.zsh DIRECTORY WORDS FILE: complete WORDS as zsh does at a terminal, with what is in
# DIRECTORY; FILE gets the line that comes of it.
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=(${(q)1} \$fpath); autoload -U compinit; compinit -D"
zpty -w shell "told() { zle complete-word; print -r -- \$BUFFER > ${(q)3} }"
zpty -w shell "zle -N told; bindkey '^T' told"
zpty -w -n shell "$2"$'\C-t'
until [[ -s $3 ]]; do
    zpty -rt shell
    sleep 0.1
done
